"""Locate each message's content in a rendered conversation, by probing the template.

The template is rendered with a marker in place of every content, which gives the pieces of text
between contents for that sequence of roles. It is rendered again with white space around the markers,
which shows what the template strips. Pieces and contents joined must then equal the real rendering,
character for character, so text in a message that looks like the template cannot shift a range.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from personascope.chat._messages import Message
from personascope.chat._reasoning import CLOSING_TAG
from personascope.errors import ChatError

Render = Callable[[Sequence[Message]], str]

# White space differs on the two sides, so that what the template leaves shows which side it was on. A
# template strips all white space, only line breaks, or nothing.
_PAD_LEFT, _PAD_RIGHT = "\n\t\n", "\n\f\n"
_LEFT_RESIDUES = {_PAD_LEFT: "", "\t\n": "\n", "": None}
_RIGHT_RESIDUES = {_PAD_RIGHT: "", "\n\f": "\n", "": None}
_REASONING_END = re.compile(rf"</[\w:-]+>|{CLOSING_TAG.pattern}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """A rendering and the character range of each message's content in it.

    Attributes:
        text: The rendering.
        ranges: Character range in ``text`` of each message's content, as far as the template kept it.
        kept: Character range, in each message's content, of the part that the template kept.
        thinking: Character range in ``text`` of each message's reasoning; empty if none was written.
    """

    text: str
    ranges: tuple[tuple[int, int], ...]
    kept: tuple[tuple[int, int], ...]
    thinking: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Text that a template writes around the contents of a sequence of roles.

    Message i of n has slot i for its content and, if the template writes its reasoning, slot n + i for that.

    Attributes:
        literals: Pieces of text around the slots, one more than there are slots.
        order: Slots in their order of appearance.
        strips: Characters stripped on the left and on the right of each slot, in that order: "" for none,
            None for all white space.
    """

    literals: tuple[str, ...]
    order: tuple[int, ...]
    strips: tuple[tuple[str | None, str | None], ...]

    def fill(self, messages: Sequence[Message]) -> Layout:
        """Put contents and reasoning into their slots."""
        texts = [message.content for message in messages] + [message.reasoning for message in messages]
        parts = [self.literals[0]]
        length = len(parts[0])
        ranges = [(0, 0)] * len(texts)
        kept = [(0, len(text)) for text in texts]
        for slot, (left, right), literal in zip(self.order, self.strips, self.literals[1:], strict=True):
            text = texts[slot]
            shown = _strip_right(_strip_left(text, left), right)
            start = len(text) - len(_strip_left(text, left)) if shown else 0
            kept[slot] = (start, start + len(shown))
            ranges[slot] = (length, length + len(shown))
            parts += [shown, literal]
            length += len(shown) + len(literal)
        n = len(messages)
        return Layout("".join(parts), tuple(ranges[:n]), tuple(kept[:n]), tuple(ranges[n:]))


class LayoutFinder:
    """Finder of layouts for one template, with a cache of skeletons by role sequence."""

    def __init__(self, render: Render) -> None:
        """Take the template as a function from messages to text."""
        self._render = render
        self.skeleton = lru_cache(maxsize=128)(self._skeleton)

    def find(self, messages: Sequence[Message]) -> Layout:
        """Render messages and locate their contents.

        Raises:
            ChatError: If the template refuses them, leaves a message out, or changes a content in a
                way that cannot be traced.
        """
        text = self._render(messages)
        layout = self._match(messages, text)
        if layout is None:
            layout = self._match_without_reasoning(messages, text)
        if layout is None:
            roles = ", ".join(message.role for message in messages)
            raise ChatError(
                f"the chat template changes the content of {self._at_fault(messages)} in a conversation of "
                f"{roles}, so the turns cannot be located",
                hint="take reasoning and tool-call markup out of the messages",
            )
        return layout

    def _at_fault(self, messages: Sequence[Message]) -> str:
        """Name the message whose text prevents the turns from being located."""
        for index, message in enumerate(messages):
            others = [*messages[:index], Message(message.role, "x"), *messages[index + 1 :]]
            if self._match(others, self._render(others)) is not None:
                return f"message {index} ({message.role}: {message.content[:40]!r})"
        return "several messages"

    def _match(self, messages: Sequence[Message], text: str) -> Layout | None:
        roles = tuple(message.role for message in messages)
        blank = tuple(not message.content.strip() for message in messages)
        thought = tuple(bool(message.reasoning.strip()) for message in messages)
        for blanks in dict.fromkeys(((False,) * len(messages), blank)):
            try:
                layout = self.skeleton(roles, blanks, thought).fill(messages)
            except ChatError:
                if blanks == blank:
                    raise
                continue
            if layout.text == text:
                return layout
        return None

    def _match_without_reasoning(self, messages: Sequence[Message], text: str) -> Layout | None:
        """Match a rendering from which the template dropped the reasoning of assistant turns.

        The template then kept the end of a content, after the last closing tag. The match counts only if
        the conversation with that end alone renders to the same text.
        """
        shortened = list(messages)
        for index, message in enumerate(messages):
            ends = [match.end() for match in _REASONING_END.finditer(message.content)]
            if message.role == "assistant" and ends:
                rest = message.content[ends[-1] :].lstrip("\n")
                shortened[index] = Message("assistant", rest, message.reasoning)
        if shortened == list(messages) or self._render(shortened) != text:
            return None
        layout = self._match(shortened, text)
        if layout is None:
            return None
        kept = [
            (start + len(whole.content) - len(short.content), end + len(whole.content) - len(short.content))
            for (start, end), whole, short in zip(layout.kept, messages, shortened, strict=True)
        ]
        return Layout(layout.text, layout.ranges, tuple(kept), layout.thinking)

    def _skeleton(
        self, roles: tuple[str, ...], blank: tuple[bool, ...], thought: tuple[bool, ...] = ()
    ) -> Skeleton:
        """Return what the template writes around contents, learnt with markers.

        Args:
            roles: Role of each message.
            blank: Whether each message is rendered with an empty content, which is placed right after the
                piece of text that precedes it.
            thought: Whether each message is rendered with reasoning, which a template may leave out; by
                default none is.
        """
        n = len(roles)
        filled = [index for index, empty in enumerate(blank) if not empty]
        filled += [n + index for index, reasoned in enumerate(thought) if reasoned]
        marks = [f"\ue000content{slot}\ue001" if slot in filled else "" for slot in range(2 * n)]
        bare = self._render(_messages(roles, marks))
        padded = self._render(
            _messages(roles, [f"{_PAD_LEFT}{mark}{_PAD_RIGHT}" if mark else "" for mark in marks])
        )
        filled = [slot for slot in filled if slot < n or bare.count(marks[slot])]
        for slot in filled:
            if bare.count(marks[slot]) != 1 or padded.count(marks[slot]) != 1:
                raise ChatError(
                    f"the chat template does not write message {slot % n} ({roles[slot % n]}) as it is, once",
                    hint="leave messages of that role out of the conversation, or pass token ids",
                )
        order = sorted(filled, key=lambda slot: bare.index(marks[slot]))
        if order != sorted(filled, key=lambda slot: padded.index(marks[slot])):
            raise ChatError("the chat template orders messages by their content", hint="report the model")
        literals = _split(bare, [marks[slot] for slot in order])
        strips = _read_strips(literals, _split(padded, [marks[slot] for slot in order]))
        # An empty content has no marker, so it is placed where the content before it ends.
        places: list[int] = []
        pieces = [literals[0]]
        both: list[tuple[str | None, str | None]] = []
        spoken = [slot % n for slot in order]
        for index in [i for i, empty in enumerate(blank) if empty and not any(j <= i for j in spoken)]:
            places.append(index)
            pieces.insert(0, "")
            both.append((None, None))
        for position, slot in enumerate(order):
            places.append(slot)
            both.append(strips[position])
            following = spoken[position + 1] if position + 1 < len(order) else n
            # An empty answer is placed after its reasoning.
            first = spoken[position] if slot >= n else slot + 1
            gaps = [i for i in range(first, following) if blank[i]]
            for gap in gaps:
                places.append(gap)
                both.append((None, None))
                pieces.append("")
            pieces.append(literals[position + 1])
        return Skeleton(tuple(pieces), tuple(places), tuple(both))


def _messages(roles: Sequence[str], texts: Sequence[str]) -> list[Message]:
    """Return messages from texts: first all contents, then all reasoning."""
    n = len(roles)
    return [Message(role, texts[i], texts[n + i]) for i, role in enumerate(roles)]  # type: ignore[arg-type]


def _split(text: str, marks: Sequence[str]) -> list[str]:
    pieces: list[str] = []
    for mark in marks:
        before, _, text = text.partition(mark)
        pieces.append(before)
    return [*pieces, text]


def _read_strips(literals: Sequence[str], padded: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Return what is stripped around each content, from pieces with and without padding around contents."""
    lefts: list[str | None] = []
    rights: list[str | None] = []
    for position, (literal, piece) in enumerate(zip(literals, padded, strict=True)):
        right_choices = _RIGHT_RESIDUES if position else {"": None}
        left_choices = _LEFT_RESIDUES if position < len(literals) - 1 else {"": None}
        found = [
            (left_choices[left], right_choices[right])
            for left in left_choices
            for right in right_choices
            if right + literal + left == piece
        ]
        if not found:
            raise ChatError(
                "the chat template changes white space around a message in a way that cannot be followed",
                hint="report the model's name; pass token ids meanwhile",
            )
        left, right = found[0]
        lefts.append(left)
        rights.append(right)
    return list(zip(lefts[:-1], rights[1:], strict=True))


def _strip_left(content: str, characters: str | None) -> str:
    return content if characters == "" else content.lstrip(characters)


def _strip_right(content: str, characters: str | None) -> str:
    return content if characters == "" else content.rstrip(characters)
