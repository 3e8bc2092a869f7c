"""Assign the tokens of a reply to its parts (thinking, answer, tool calls) as they are sampled."""

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
"""Part of a token; "" for marks, headers, and the white space around them."""

PARTS: tuple[Part, ...] = ("thinking", "answer", "tool_calls")


@dataclass(frozen=True, slots=True)
class ReplySpan:
    """Tokens of one part of a reply, ``token_ids[start:end]``.

    Attributes:
        part: "thinking", "answer" or "tool_calls".
        start: Index of the first token in the reply.
        end: One past the index of the last token.
    """

    part: Part
    start: int
    end: int


def spans_of(kinds: Sequence[Kind]) -> tuple[ReplySpan, ...]:
    """Return the spans of consecutive tokens of the same part."""
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
    """Format of replies: their marks, and the part in which the generation prompt leaves them.

    Attributes:
        tokenizer: Tokenizer of the model.
        marks: Marks of the template.
        opened: Part that the generation prompt leaves open: "thinking", "answer", or "header" of a channel.
        closed: Whether the generation prompt closes the reasoning, so that thinking is off.
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
            tokenizer: Tokenizer of the model.
            marks: Marks of the template.
            prompt: Text that the template writes after the last message, including the generation prompt.
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
        """Return a new reader for one reply."""
        return ReplyReader(self)

    def answer_prefix(self) -> tuple[int, ...]:
        """Return the tokens to append to the generation prompt so that the answer begins without thinking."""
        text = ""
        channels = self.marks.channels
        if channels is not None and self.opened == "header":
            text = f"{channels.channel}{channels.answer}{channels.body}"
        elif self.marks.thinking is not None and self.opened == "thinking":
            text = f"\n{self.marks.thinking[1]}\n\n"
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids) if text else ()

    def split(self, tokens: Iterable[int]) -> tuple[ReplySpan, ...]:
        """Return the spans of a complete reply."""
        reader = self.reader()
        for token in tokens:
            reader.feed(token)
        return reader.spans

    def text(self, token: int) -> str:
        """Return the text of one token, also of a special one."""
        known = self._texts.get(token)
        if known is None:
            known = self._texts[token] = self.decode([token], special=True)
        return known

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Decode tokens; special tokens are skipped unless ``special``."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not special))


class ReplyReader:
    """Reader that assigns the tokens of one reply to parts, one by one.

    Attributes:
        kinds: Part of every token so far. The newest are provisional: white space before a mark, and the
            beginning of a tag of several tokens, become "" once the mark is complete.
        answer_tokens: Number of tokens fed as answer or tool calls so far.
    """

    def __init__(self, format: ReplyFormat) -> None:
        """Begin where the generation prompt ends."""
        self._format = format
        self._channels: Channels | None = format.marks.channels
        self._tokens: list[int] = []
        self.kinds: list[Kind] = []
        self._header: list[int] | None = [] if format.opened == "header" else None
        self._kind: Kind = "answer" if format.opened == "header" else format.opened
        # White space that follows a mark belongs to the template.
        self._after_mark = format.opened == "thinking"
        self._marked = format.opened != "answer"
        self.answer_tokens = 0

    @property
    def spans(self) -> tuple[ReplySpan, ...]:
        """Spans of the tokens so far."""
        return spans_of(self.kinds)

    @property
    def marked(self) -> bool:
        """Whether the reply has a mark so far or began in reasoning or a header; if not, it is all answer."""
        return self._marked

    @property
    def part(self) -> Kind:
        """Current part of the reply; "" inside a header."""
        return "" if self._header is not None else self._kind

    def feed(self, token: int) -> Kind:
        """Read the next token and return its part, which may be provisional (see ``kinds``)."""
        self._tokens.append(token)
        kind = self._channel(token) if self._channels is not None else self._tag(token)
        self.kinds.append(kind)
        self.answer_tokens += kind in ("answer", "tool_calls")
        return kind

    @property
    def thinking_tokens(self) -> int:
        """Number of tokens fed so far that were not counted in ``answer_tokens``: reasoning and marks."""
        return len(self.kinds) - self.answer_tokens

    def is_full(self, *, answer: int | None, thinking: int | None) -> bool:
        """Return whether a limit is reached.

        Args:
            answer: Maximum number of answer tokens; None for no limit.
            thinking: Maximum number of tokens before an answer begins; None for no limit.
        """
        if answer is not None and self.answer_tokens >= answer:
            return True
        answering = self.part in ("answer", "tool_calls")
        return thinking is not None and not answering and self.thinking_tokens >= thinking

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
        # A tag that is a single token of the vocabulary is always a mark. A tag of several tokens is a mark
        # only where a part may begin: at the start of the reply, or after another part's mark.
        if length == 1 and self._format.text(self._tokens[-1]) == opening:
            return True
        if part == "tool_calls":
            return self._kind != "thinking"
        before = self._tokens[: len(self._tokens) - length]
        return all(not kind for kind in self.kinds[: len(before)]) or self._after_mark_only(len(before))

    def _after_mark_only(self, stop: int) -> bool:
        """Return whether nothing but white space lies between the last mark and ``stop``."""
        place = stop
        while place and not self._format.text(self._tokens[place - 1]).strip():
            place -= 1
        return place == 0 or not self.kinds[place - 1]

    def _open(self, part: Part, length: int) -> None:
        self._blank(length)
        self._kind, self._after_mark, self._marked = part, True, True

    def _close(self, part: Part, length: int) -> None:
        if part == "thinking" and not self._marked:
            # The tag was never opened, so the model thought from its first token on.
            leading = True
            for place, token in enumerate(self._tokens[: len(self.kinds)]):
                leading = leading and not self._format.text(token).strip()
                self.kinds[place] = "" if leading else "thinking"
            self.answer_tokens = 0
        self._blank(length)
        self._kind, self._after_mark, self._marked = "answer", True, True

    def _blank(self, length: int) -> None:
        """Assign a tag's earlier tokens, and the white space before it, to no part."""
        start = len(self.kinds) - (length - 1)
        while start and self.kinds[start - 1] and not self._format.text(self._tokens[start - 1]).strip():
            start -= 1
        for place in range(start, len(self.kinds)):
            # They were counted when they came, before the tag was whole.
            self.answer_tokens -= self.kinds[place] in ("answer", "tool_calls")
            self.kinds[place] = ""

    def _ends_with(self, tag: str) -> int:
        """Return the number of tokens of the tag if the newest token completes it, else 0."""
        newest = self._format.text(self._tokens[-1])
        if tag[-1] not in newest:
            return 0
        if tag in newest:
            return 1
        text = newest
        for length in range(2, min(len(tag), len(self._tokens)) + 1):
            text = self._format.text(self._tokens[-length]) + text
            if tag in text:
                # The tag counts only if the newest token completes it.
                return length if tag not in text[: len(text) - len(newest)] else 0
        return 0
