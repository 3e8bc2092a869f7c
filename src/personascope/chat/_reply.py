"""Telling the tokens of a reply apart, one by one as they are drawn: thinking, answer, tool calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from personascope.chat._parts import Channels, ReplyMarks, opens_thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Literal["thinking", "answer", "tool_calls"]
Kind = Literal["thinking", "answer", "tool_calls", ""]
"""Part of a token; "" for marks, headers, and the white space beside them."""

PARTS: tuple[Part, ...] = ("thinking", "answer", "tool_calls")


@dataclass(frozen=True, slots=True)
class ReplySpan:
    """Tokens of one part of a reply, ``token_ids[start:end]``.

    Attributes:
        part: "thinking", "answer" or "tool_calls".
        start: First token, counted from the reply's first one.
        end: One past the last token.
    """

    part: Part
    start: int
    end: int


def spans_of(kinds: Sequence[Kind]) -> tuple[ReplySpan, ...]:
    """Return the spans of tokens whose parts are given."""
    spans: list[ReplySpan] = []
    place = 0
    for kind, run in groupby(kinds):
        length = sum(1 for _ in run)
        if kind:
            spans.append(ReplySpan(kind, place, place + length))
        place += length
    return tuple(spans)


@dataclass(frozen=True, slots=True, eq=False)
class ReplyFormat:
    """The marks of replies, as a tokenizer writes them, and where a reply begins.

    Attributes:
        tokenizer: The model's.
        marks: The marks.
        opened: What the generation prompt leaves open: "thinking", "answer", or "header" of a channel.
        closed: Whether the generation prompt opened the reasoning and closed it again: thinking is off.
    """

    tokenizer: PreTrainedTokenizerBase
    marks: ReplyMarks
    opened: Literal["thinking", "answer", "header"]
    closed: bool = False
    _texts: dict[int, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, marks: ReplyMarks, prompt: str) -> ReplyFormat:
        """Return the format of replies that follow a generation prompt.

        Args:
            tokenizer: The model's.
            marks: The marks of its template.
            prompt: What the template writes after the last message, the generation prompt with it.
        """
        if marks.channels is not None:
            channels = marks.channels
            last = prompt.rfind(channels.begin)
            header = prompt[last:]
            if last >= 0 and channels.body in header:
                name = header.partition(channels.channel)[2].partition(channels.body)[0].split()
                thinking = bool(name) and name[0] != channels.answer
                return cls(tokenizer, marks, "thinking" if thinking else "answer")
            return cls(tokenizer, marks, "header")
        opened = marks.thinking is not None and opens_thinking(prompt, marks.thinking)
        closed = marks.thinking is not None and not opened and marks.thinking[1] in prompt
        return cls(tokenizer, marks, "thinking" if opened else "answer", closed)

    def reader(self) -> ReplyReader:
        """Return a reader of one reply."""
        return ReplyReader(self)

    def answer_prefix(self) -> tuple[int, ...]:
        """Return the tokens that lead from the generation prompt to an answer without any thinking."""
        text = ""
        channels = self.marks.channels
        if channels is not None and self.opened == "header":
            text = f"{channels.channel}{channels.answer}{channels.body}"
        elif self.marks.thinking is not None and self.opened == "thinking":
            text = f"\n{self.marks.thinking[1]}\n\n"
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids) if text else ()

    def split(self, tokens: Iterable[int]) -> tuple[ReplySpan, ...]:
        """Return the spans of a whole reply."""
        reader = self.reader()
        for token in tokens:
            reader.feed(token)
        return reader.spans

    def text(self, token: int) -> str:
        """Return the text of one token, special ones included."""
        known = self._texts.get(token)
        if known is None:
            known = self._texts[token] = self.decode([token], special=True)
        return known

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not special))


class ReplyReader:
    """Reads one reply token by token.

    Attributes:
        kinds: The part of every token so far. The newest are provisional: white space before a mark, and
            the beginning of a tag of several tokens, turn out to be in no part once the mark is complete.
        answer_tokens: Tokens of the answer and of tool calls so far; the others are of the way there.
    """

    def __init__(self, format: ReplyFormat) -> None:
        """Begin where the generation prompt ends."""
        self._format = format
        self._channels: Channels | None = format.marks.channels
        self._tokens: list[int] = []
        self.kinds: list[Kind] = []
        self._header: list[int] | None = [] if format.opened == "header" else None
        self._kind: Kind = "answer" if format.opened == "header" else format.opened
        # White space that follows a mark is the template's.
        self._after_mark = format.opened == "thinking"
        self._marked = format.opened != "answer"
        self.answer_tokens = 0

    @property
    def spans(self) -> tuple[ReplySpan, ...]:
        """The spans so far."""
        return spans_of(self.kinds)

    @property
    def marked(self) -> bool:
        """Whether the reply has any mark, or begins inside of its reasoning: else it is all answer."""
        return self._marked

    @property
    def part(self) -> Kind:
        """The part that the reply is in."""
        return "" if self._header is not None else self._kind

    def feed(self, token: int) -> Kind:
        """Take the next token; return its part, as far as it can be told now."""
        self._tokens.append(token)
        kind = self._channel(token) if self._channels is not None else self._tag(token)
        self.kinds.append(kind)
        self.answer_tokens += kind in ("answer", "tool_calls")
        return kind

    @property
    def thinking_tokens(self) -> int:
        """Tokens of the reasoning so far, with the marks around it."""
        return len(self.kinds) - self.answer_tokens

    def _channel(self, token: int) -> Kind:
        channels = self._channels
        assert channels is not None
        text = self._format.text(token)
        if text == channels.body and self._header is not None:
            self._kind = self._channel_part(self._header, channels)
            self._header = None
            return ""
        if text in (channels.begin, channels.channel) and self._header is None:
            self._header = []
        if self._header is not None:
            self._marked = True
            self._header.append(token)
            return ""
        if text in channels.end:
            self._header = []
            return ""
        return self._kind

    def _channel_part(self, header: list[int], channels: Channels) -> Kind:
        text = self._format.decode(header, special=True)
        before, found, after = text.partition(channels.channel)
        if "to=" in before or "to=" in after:
            return "tool_calls"
        name = after.split()
        if not found or (name and name[0] == channels.answer):
            return "answer"
        known = bool(channels.thinking)
        return "thinking" if not known or (name and name[0] == channels.thinking) else "tool_calls"

    def _tag(self, token: int) -> Kind:
        marks = self._format.marks
        pairs: list[tuple[Part, tuple[str, str] | None]] = [
            ("thinking", marks.thinking),
            ("answer", marks.answer),
            ("tool_calls", marks.tool_calls),
        ]
        for part, pair in pairs:
            if pair is None:
                continue
            opening, closing = pair
            length = self._ends_with(closing) if closing else 0
            if length:
                self._close(part, length)
                return ""
            length = self._ends_with(opening)
            if length and self._may_open(part, opening, length):
                self._open(part, length)
                return ""
        if self._after_mark and not self._format.text(token).strip():
            return ""
        self._after_mark = False
        return self._kind

    def _may_open(self, part: Part, opening: str, length: int) -> bool:
        # A tag that is one token of the vocabulary is never mere text; one of several is a mark only where
        # a part may begin: at the start of the reply, or after another part's mark.
        if length == 1 and self._format.text(self._tokens[-1]) == opening:
            return True
        if part == "tool_calls":
            return self._kind != "thinking"
        before = self._tokens[: len(self._tokens) - length]
        return all(not kind for kind in self.kinds[: len(before)]) or self._after_mark_only(len(before))

    def _after_mark_only(self, stop: int) -> bool:
        """Whether nothing but white space lies between the last mark and a place."""
        place = stop
        while place and not self._format.text(self._tokens[place - 1]).strip():
            place -= 1
        return place == 0 or not self.kinds[place - 1]

    def _open(self, part: Part, length: int) -> None:
        self._blank(length)
        self._kind, self._after_mark, self._marked = part, True, True

    def _close(self, part: Part, length: int) -> None:
        if part == "thinking" and not self._marked:
            # Never opened: the model thought from its first token on.
            leading = True
            for place, token in enumerate(self._tokens[: len(self.kinds)]):
                leading = leading and not self._format.text(token).strip()
                self.kinds[place] = "" if leading else "thinking"
            self.answer_tokens = 0
        self._blank(length)
        self._kind, self._after_mark, self._marked = "answer", True, True

    def _blank(self, length: int) -> None:
        """Take a tag's earlier tokens, and the white space before it, out of the part that they were in."""
        place = len(self.kinds)
        for _ in range(length - 1):
            place -= 1
            self.kinds[place] = ""
        while place and self.kinds[place - 1] and not self._format.text(self._tokens[place - 1]).strip():
            place -= 1
            self.kinds[place] = ""

    def _ends_with(self, tag: str) -> int:
        """Return of how many tokens the tag is that the newest token completes; 0 if it completes none."""
        newest = self._format.text(self._tokens[-1])
        if tag[-1] not in newest:
            return 0
        if tag in newest:
            return 1
        text = newest
        for length in range(2, min(len(tag), len(self._tokens)) + 1):
            text = self._format.text(self._tokens[-length]) + text
            if tag in text:
                # It must be the newest token that completes it.
                return length if tag not in text[: len(text) - len(newest)] else 0
        return 0
