"""Find the parts of a reply and their marks from what a chat template writes, never by a model's name.

Replies are rendered with markers for reasoning, answer and tool call. What the template writes between
the markers are the marks that the model was trained to write itself. If a template has no field for
reasoning, the marks are those of the empty block that it writes to switch thinking off, or else a pair of
tags in its source that are words for thinking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.chat._reasoning import ANSWER_TAG, CLOSING_TAG, OPENING_TAG, closing_of, opening_of
from personascope.errors import ChatError

Render = Callable[[Sequence[dict[str, Any]], bool], str]
"""Function from messages, and whether to add the generation prompt, to text."""

FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which templates expect reasoning."""

_THOUGHT, _ANSWER, _NAME, _VALUE = (f"\ue000{part}\ue001" for part in ("thought", "answer", "name", "value"))
_TAG = r"<[^\s<>]{1,40}>|\[/?[A-Z][A-Z_ ]+\]"
_USER = {"role": "user", "content": "Hello there"}


@dataclass(frozen=True, slots=True)
class Channels:
    """Messages inside one reply, each with a header that names its channel.

    Attributes:
        begin: Token that begins the header of a further message of the reply.
        channel: Token before the channel's name.
        body: Token that ends the header.
        end: Tokens that end a message.
        thinking: Name of the reasoning channel; "" if the template does not show it.
        answer: Name of the answer channel.
    """

    begin: str
    channel: str
    body: str
    end: frozenset[str]
    thinking: str
    answer: str


@dataclass(frozen=True, slots=True)
class ReplyMarks:
    """Marks that delimit the parts of a reply.

    Attributes:
        field: Key of a message under which the template expects reasoning; "" if it has none.
        thinking: Opening and closing tag of reasoning; None for a model that does not think in tags.
        answer: Opening and closing tag of the answer; None if the model does not wrap it.
        tool_calls: Opening and closing tag of tool calls, or None; the closing one is "" if only the end of
            the reply ends them.
        channels: Channels of a format that has them instead of tags; else None.
        inner: Tokens that the template writes between parts of one reply.
    """

    field: str = ""
    thinking: tuple[str, str] | None = None
    answer: tuple[str, str] | None = None
    tool_calls: tuple[str, str] | None = None
    channels: Channels | None = None
    inner: frozenset[str] = frozenset()

    @property
    def thinks(self) -> bool:
        """Whether a reply may hold reasoning."""
        return self.thinking is not None or self.channels is not None

    def __bool__(self) -> bool:
        """Whether a reply may have more parts than its answer."""
        return self.thinks or self.tool_calls is not None

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts of all opening and closing tags."""
        pairs = (self.thinking, self.answer, self.tool_calls)
        return tuple(text for pair in pairs if pair is not None for text in pair if text)


def find_marks(
    render: Render, source: str, added: Sequence[str], *, off: str = "", on: str = ""
) -> ReplyMarks:
    """Find the marks of a template.

    Args:
        render: Function that renders the template.
        source: Source of the template.
        added: Texts of the tokenizer's added tokens.
        off: Text that the template writes after the last message with thinking switched off.
        on: The same text with thinking switched on.
    """
    tags = re.compile(
        "|".join([*map(re.escape, sorted(filter(str.strip, added), key=len, reverse=True)), _TAG])
    )
    prompt = _try(render, [_USER], True) or ""
    text, key = _with_reasoning(render)
    inner: set[str] = set()
    thinking: tuple[str, str] | None = None
    channels: Channels | None = None
    if key:
        before, rest = text.split(_THOUGHT)
        between = rest.split(_ANSWER)[0]
        first, then = tags.findall(before), tags.findall(between)
        inner |= set(then)
        channels = _channels(first, then, before, between, added)
        of_user = set(tags.findall(before.split(_USER["content"])[0]))
        if channels is None and first and then and first[-1] not in of_user:
            # A word right after the tag names what it opens, so it belongs to the tag.
            word = before.rpartition(first[-1])[2].strip()
            thinking = (first[-1] + word, then[0])
    if channels is None:
        channels = _channels_of_answer(render, prompt, tags, added)
        if channels is not None:
            inner |= {*channels.end, channels.begin, channels.channel, channels.body}
    if thinking is None and channels is None:
        thinking = _empty_block(off, on, tags) or _named_pair(source, prompt, added)
    answer = None
    if thinking is not None:
        wrapper = ANSWER_TAG.search(source)
        answer = None if wrapper is None else (wrapper[0], closing_of(wrapper[0]))
    calls = None if channels is not None else _tool_calls(render, prompt, tags, thinking)
    return ReplyMarks(key, thinking, answer, calls, channels, frozenset(inner))


def opens_thinking(prompt: str, thinking: tuple[str, str]) -> bool:
    """Return whether a generation prompt leaves the reasoning open."""
    opening, closing = thinking
    return prompt.rfind(opening) > prompt.rfind(closing)


def _try(render: Render, messages: Sequence[dict[str, Any]], prompt: bool) -> str | None:
    try:
        return render(messages, prompt)
    except ChatError:
        return None


def _with_reasoning(render: Render) -> tuple[str, str]:
    """Return a reply rendered with its reasoning, and the key that holds it; "" twice if no key does."""
    for key in FIELDS:
        reply = {"role": "assistant", "content": _ANSWER, key: _THOUGHT}
        text = _try(render, [_USER, reply], False)
        if text is None or text.count(_THOUGHT) != 1 or text.count(_ANSWER) != 1:
            continue
        if text.index(_THOUGHT) < text.index(_ANSWER):
            return text, key
    return "", ""


def _channels(
    first: list[str], then: list[str], before: str, between: str, added: Sequence[str]
) -> Channels | None:
    """Return the channels of a format in which a header precedes both reasoning and answer; None if not."""
    if len(first) < 2 or len(then) < 3 or first[-1] != then[-1] or first[-2] != then[-2]:
        return None
    channel, body = then[-2:]
    if not {channel, body} <= set(added):
        return None
    thinking, answer = _header_name(before, channel, body), _header_name(between, channel, body)
    if not thinking or not answer or thinking == answer:
        return None
    begin = next(tag for tag in then[1:] if tag != body)
    return Channels(begin, channel, body, frozenset(then[:1]), thinking, answer)


def _header_name(text: str, channel: str, body: str) -> str:
    name = text.rpartition(channel)[2].partition(body)[0].split()
    return name[0] if name else ""


def _channels_of_answer(
    render: Render, prompt: str, tags: re.Pattern[str], added: Sequence[str]
) -> Channels | None:
    """Return the channels of a template that writes a header before an answer which the prompt lacks."""
    text = _try(render, [_USER, {"role": "assistant", "content": _ANSWER}], False)
    middle = _try(render, [_USER, {"role": "assistant", "content": _ANSWER}, _USER], False)
    if text is None or middle is None or text.count(_ANSWER) != 1 or middle.count(_ANSWER) != 1:
        return None
    before, after = text.split(_ANSWER)
    header = before.removeprefix(prompt)
    found = tags.findall(header)
    if header == before or len(found) != 2 or not set(found) <= set(added):
        return None
    channel, body = found
    name = _header_name(header, channel, body)
    begins = tags.findall(prompt)
    ends = tags.findall(after)[:1] + tags.findall(middle.split(_ANSWER)[1])[:1]
    # The end token in mid-chat separates parts. Without another one for the reply, it would end that too.
    if not name or not begins or len(set(ends)) < 2:
        return None
    return Channels(begins[-1], channel, body, frozenset(ends[1:]), "", name)


def _empty_block(off: str, on: str, tags: re.Pattern[str]) -> tuple[str, str] | None:
    """Return the tags of the empty reasoning block that a template writes when thinking is off, or None."""
    block = off.removeprefix(on)
    found = tags.findall(block)
    if block == off or len(found) != 2 or found[0] == found[1]:
        return None
    opening, closing = found
    return opening + block.partition(opening)[2].partition(closing)[0].strip(), closing


def _named_pair(source: str, prompt: str, added: Sequence[str]) -> tuple[str, str] | None:
    """Return a pair of tags that are words for thinking, if the template contains one of them; else None."""
    texts = f"{source}\n{prompt}"
    closing = CLOSING_TAG.search(texts)
    if closing is not None:
        partner = opening_of(closing[0])
        known = [text for text in (*added, *OPENING_TAG.findall(texts)) if closing_of(text) == closing[0]]
        return (known[0] if known else partner), closing[0]
    opening = OPENING_TAG.search(prompt)
    return None if opening is None else (opening[0], closing_of(opening[0]))


def _tool_calls(
    render: Render,
    prompt: str,
    tags: re.Pattern[str],
    thinking: tuple[str, str] | None,
) -> tuple[str, str] | None:
    for arguments in ({"key": _VALUE}, f'{{"key": "{_VALUE}"}}'):
        call = {
            "id": "call00001",
            "type": "function",
            "function": {"name": _NAME, "arguments": arguments},
        }
        for content in ("", None, _ANSWER):
            reply = {"role": "assistant", "content": content, "tool_calls": [call]}
            text = _try(render, [_USER, reply], False)
            if text is not None and text.count(_NAME) == 1:
                break
        else:
            continue
        break
    else:
        return None
    before, after = text.split(_NAME)
    reply_from = before.find(_ANSWER) + len(_ANSWER) if _ANSWER in before else len(_shared(before, prompt))
    before = before[reply_from:]
    after = after.rpartition(_VALUE)[2]
    ignored = set(thinking or ())
    openings = [tag for tag in tags.findall(before) if tag not in ignored]
    if not openings:
        return None
    opening = openings[0]
    ends = tags.findall(after)
    partner = closing_of(opening)
    plain = _try(render, [_USER, {"role": "assistant", "content": _ANSWER}], False) or ""
    turn_end = set(tags.findall(plain.rpartition(_ANSWER)[2]))
    closings = [tag for tag in ends if tag not in turn_end]
    closing = partner if partner in ends else closings[-1] if closings else ""
    return opening, closing


def _shared(text: str, other: str) -> str:
    length = next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    return text[: min(len(text), len(other)) if length is None else length]
