"""Where each message's content lies in a rendered conversation, learnt from the template itself.

The template is rendered with a marker in place of every content, which gives the pieces of text
between contents for that sequence of roles, and once more with white space around the markers, which
shows what the template strips. Pieces and contents put together must then give the real rendering,
character for character; so text in a message that looks like the template cannot shift anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from personascope.chat._messages import Message
from personascope.errors import ChatError

Render = Callable[[Sequence[Message]], str]

# Different white space on the two sides, so that what is left of it tells which side it was on. A
# template strips all white space, or line breaks, or nothing.
_PAD_LEFT, _PAD_RIGHT = "\n\t\n", "\n\f\n"
_LEFT_RESIDUES = {_PAD_LEFT: "", "\t\n": "\n", "": None}
_RIGHT_RESIDUES = {_PAD_RIGHT: "", "\n\f": "\n", "": None}
_REASONING_END = re.compile(r"</[\w:-]+>")


@dataclass(frozen=True, slots=True)
class Layout:
    """A rendering and the character range of each message's content in it.

    Attributes:
        text: The rendering.
        ranges: One range for each message, around what the template kept of its content.
        kept: One range for each message: the part of its content that the template kept.
    """

    text: str
    ranges: tuple[tuple[int, int], ...]
    kept: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What a template writes around the contents of a sequence of roles.

    Attributes:
        literals: The pieces of text around the contents, one more than there are contents.
        order: Indices of the messages in the order in which their contents appear.
        strips: For each of those, the characters stripped on the left and on the right: "" for none,
            None for all white space.
    """

    literals: tuple[str, ...]
    order: tuple[int, ...]
    strips: tuple[tuple[str | None, str | None], ...]

    def fill(self, contents: Sequence[str]) -> Layout:
        """Put contents into their places."""
        parts = [self.literals[0]]
        length = len(parts[0])
        ranges = [(0, 0)] * len(contents)
        kept = [(0, len(content)) for content in contents]
        for index, (left, right), literal in zip(self.order, self.strips, self.literals[1:], strict=True):
            content = contents[index]
            shown = _strip_right(_strip_left(content, left), right)
            start = len(content) - len(_strip_left(content, left)) if shown else 0
            kept[index] = (start, start + len(shown))
            ranges[index] = (length, length + len(shown))
            parts += [shown, literal]
            length += len(shown) + len(literal)
        return Layout("".join(parts), tuple(ranges), tuple(kept))


class LayoutFinder:
    """Finds layouts with one template, keeping the skeletons of role sequences that it has met."""

    def __init__(self, render: Render) -> None:
        """Take the template as a function from messages to text."""
        self._render = render
        self.skeleton = lru_cache(maxsize=128)(self._skeleton)

    def find(self, messages: Sequence[Message]) -> Layout:
        """Render messages and locate their contents.

        Raises:
            ChatError: If the template refuses them, leaves a message out, or changes a content in a
                way that cannot be followed.
        """
        text = self._render(messages)
        layout = self._match(messages, text)
        if layout is None:
            # A template may write the date, and a kept skeleton may be yesterday's.
            self.skeleton.cache_clear()
            layout = self._match(messages, text) or self._match_without_reasoning(messages, text)
        if layout is None:
            roles = ", ".join(message.role for message in messages)
            raise ChatError(
                f"the chat template changes the content of a message in a conversation of {roles}, "
                "so the turns cannot be located",
                hint="take reasoning and tool-call markup out of the messages",
            )
        return layout

    def _match(self, messages: Sequence[Message], text: str) -> Layout | None:
        contents = [message.content for message in messages]
        roles = tuple(message.role for message in messages)
        blank = tuple(not content.strip() for content in contents)
        for blanks in dict.fromkeys(((False,) * len(messages), blank)):
            try:
                layout = self.skeleton(roles, blanks).fill(contents)
            except ChatError:
                if blanks == blank:
                    raise
                continue
            if layout.text == text:
                return layout
        return None

    def _match_without_reasoning(self, messages: Sequence[Message], text: str) -> Layout | None:
        """Match a rendering from which the template dropped the reasoning of assistant turns.

        What it kept is the end of a content after a closing tag, and is right if the conversation
        with that end alone renders to the very same text.
        """
        shortened = list(messages)
        for index, message in enumerate(messages):
            ends = [match.end() for match in _REASONING_END.finditer(message.content)]
            if message.role == "assistant" and ends:
                shortened[index] = Message("assistant", message.content[ends[-1] :].lstrip("\n"))
        if shortened == list(messages) or self._render(shortened) != text:
            return None
        layout = self._match(shortened, text)
        if layout is None:
            return None
        kept = [
            (start + len(whole.content) - len(short.content), end + len(whole.content) - len(short.content))
            for (start, end), whole, short in zip(layout.kept, messages, shortened, strict=True)
        ]
        return Layout(layout.text, layout.ranges, tuple(kept))

    def _skeleton(self, roles: tuple[str, ...], blank: tuple[bool, ...]) -> Skeleton:
        """Learn what the template writes around contents.

        Args:
            roles: Role of each message.
            blank: Which messages are rendered with an empty content; their place is taken to be
                right after the piece of text that precedes it.
        """
        marks = ["" if empty else f"\ue000content{index}\ue001" for index, empty in enumerate(blank)]
        bare = self._render(_messages(roles, marks))
        padded = self._render(
            _messages(roles, [f"{_PAD_LEFT}{mark}{_PAD_RIGHT}" if mark else "" for mark in marks])
        )
        filled = [index for index, empty in enumerate(blank) if not empty]
        for index in filled:
            if bare.count(marks[index]) != 1 or padded.count(marks[index]) != 1:
                raise ChatError(
                    f"the chat template does not write message {index} ({roles[index]}) as it is, once",
                    hint="leave messages of that role out of the conversation, or pass token ids",
                )
        order = sorted(filled, key=lambda index: bare.index(marks[index]))
        if order != sorted(filled, key=lambda index: padded.index(marks[index])):
            raise ChatError("the chat template orders messages by their content", hint="report the model")
        literals = _split(bare, [marks[index] for index in order])
        strips = _read_strips(literals, _split(padded, [marks[index] for index in order]))
        # An empty content has no place of its own: it is put where the one before it ends.
        places: list[int] = []
        pieces = [literals[0]]
        both: list[tuple[str | None, str | None]] = []
        for index in [i for i, empty in enumerate(blank) if empty and not any(j < i for j in order)]:
            places.append(index)
            pieces.insert(0, "")
            both.append((None, None))
        for position, index in enumerate(order):
            places.append(index)
            both.append(strips[position])
            following = order[position + 1] if position + 1 < len(order) else len(roles)
            gaps = [i for i in range(index + 1, following) if blank[i]]
            for gap in gaps:
                places.append(gap)
                both.append((None, None))
                pieces.append("")
            pieces.append(literals[position + 1])
        return Skeleton(tuple(pieces), tuple(places), tuple(both))


def _messages(roles: Sequence[str], contents: Sequence[str]) -> list[Message]:
    return [Message(role, content) for role, content in zip(roles, contents, strict=True)]  # type: ignore[arg-type]


def _split(text: str, marks: Sequence[str]) -> list[str]:
    pieces: list[str] = []
    for mark in marks:
        before, _, text = text.partition(mark)
        pieces.append(before)
    return [*pieces, text]


def _read_strips(literals: Sequence[str], padded: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Compare pieces with and without white space around the contents."""
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
