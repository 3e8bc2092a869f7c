"""Select the tokens of a reply or a conversation that are pooled and projected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from personascope.chat import PARTS, Rendered, ReplyFormat, ReplySpan, TurnSpan
from personascope.engines._contract import Sampling
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan, reply_parts

SELECTIONS = ("answer", "response", *(part for part in PARTS if part != "answer"), "all", "prompt")
"""Named selections of tokens; "turn:N" is another."""

THINKING_TOKENS = 4
"""Default maximum of reasoning tokens, as a multiple of the maximum of answer tokens."""

MARK_TOKENS = 256
"""Number of tokens reserved for the marks between the parts of a response."""

_TURN = re.compile(r"turn:(\d{1,9})")

Span = tuple[int, int]


def check_tokens(tokens: str, messages: int | None = None) -> None:
    """Check that a selection of tokens exists.

    Args:
        tokens: Selection, one of `SELECTIONS` or "turn:N".
        messages: Number of messages of the conversation, if it is known.

    Raises:
        UsageError: If it does not exist, or names a message that does not.
    """
    turn = _TURN.fullmatch(tokens)
    if turn is None and tokens not in SELECTIONS:
        raise UsageError(
            f"there is no selection of tokens {tokens!r}",
            hint=f"give one of {', '.join(SELECTIONS)}, or turn:N, N a message's index",
        )
    if turn is not None and messages is not None and int(turn[1]) >= messages:
        raise UsageError(
            f"the selection {tokens} names a message of a conversation of {messages}",
            hint=f"messages are counted from 0: name one up to turn:{messages - 1}",
        )


def sampling_record(sampling: Sampling) -> dict[str, Any]:
    """Return a sampling as JSON values; ``max_thinking_tokens``, a later addition, is left out if None."""
    values = asdict(sampling)
    return {key: value for key, value in values.items() if key != "max_thinking_tokens" or value is not None}


def thinking_limit(sampling: Sampling) -> int:
    """Return the maximum number of reasoning tokens before the answer."""
    given = sampling.max_thinking_tokens
    return THINKING_TOKENS * sampling.max_new_tokens if given is None else given


def turn_spans(rendered: Rendered, tokens: str) -> list[TurnSpan]:
    """Return the span of the selected tokens of every message of a conversation, empty if it has none.

    Args:
        rendered: Rendered conversation.
        tokens: "answer" for the content of each message; "thinking" for the reasoning before it; "response"
            or "all" for both, from the first token of the reasoning to the last of the content; "prompt" for
            the messages that are not the model's; "turn:N" for one message.

    Raises:
        UsageError: If there is no such selection, it names a message that does not exist, or it is
            "tool_calls", which are not found in existing conversations.
    """
    check_tokens(tokens, len(rendered.spans))
    if tokens == "tool_calls":
        raise UsageError(
            "tool calls of a conversation that exists are not told apart",
            hint="select them in replies that are generated, or take tokens='answer'",
        )
    thoughts = {span.index: span for span in rendered.thinking if span.end > span.start}
    chosen: list[TurnSpan] = []
    for span in rendered.spans:
        thought = thoughts.get(span.index)
        taken = span
        if tokens == "thinking":
            taken = thought or replace(span, end=span.start)
        elif tokens in ("response", "all") and thought is not None:
            taken = replace(span, start=thought.start, end=max(thought.end, span.end))
        elif (tokens == "prompt" and span.role == "assistant") or (
            tokens.startswith("turn:") and span.index != int(tokens.removeprefix("turn:"))
        ):
            taken = replace(span, end=span.start)
        chosen.append(taken)
    return chosen


def response_start(rendered: Rendered) -> int:
    """Return the first token of the last reply of an existing conversation, its reasoning included."""
    replies = [span for span in rendered.spans if span.role == "assistant"]
    if not replies:
        return len(rendered.token_ids)
    last = replies[-1]
    begins = [span.start for span in rendered.thinking if span.index == last.index and span.end > span.start]
    return min([last.start, *begins])


def part_starts(rendered: Rendered) -> list[tuple[int, str]]:
    """Return first token and name of each part of a conversation, whose last reply is the response."""
    replies = [span for span in rendered.spans if span.role == "assistant"]
    if not replies:
        return [(0, "prompt")]
    last = replies[-1]
    thoughts = [s for s in rendered.thinking if s.index == last.index and s.end > s.start]
    thinking = [(place, part) for s in thoughts for place, part in ((s.start, "thinking"), (s.end, ""))]
    return [(0, "prompt"), *thinking, (last.start, "answer"), (last.end, "")]


def reply_spans(spans: Sequence[ReplySpan] | None, length: int, tokens: str) -> list[Span]:
    """Return the spans of the selected tokens of a reply, counted from its first one.

    Args:
        spans: Parts of the reply; None if it is all answer.
        length: Number of tokens of the reply.
        tokens: "response" or the name of a part.
    """
    if tokens == "response" or (spans is None and tokens == "answer"):
        return [(0, length)] if length else []
    return [(span.start, span.end) for span in spans or () if span.part == tokens]


def reply_text(reply: ReplyFormat, tokens: Sequence[int], spans: Sequence[ReplySpan], part: str) -> str:
    """Return the text of one part of a reply."""
    return "".join(reply.decode(tokens[span.start : span.end]) for span in spans if span.part == part)


def longest_reply(engine: object, sampling: Sampling) -> int:
    """Return the maximum number of tokens of a reply, including thinking if the engine's model thinks."""
    thinks = getattr(getattr(engine, "chat", None), "thinking", "none") in ("on", "always")
    return sampling.max_new_tokens + (thinking_limit(sampling) if thinks else 0)


def read_reply(
    reply: ReplyFormat | None, tokens: Sequence[int], sampling: Sampling
) -> tuple[list[int], tuple[ReplySpan, ...] | None, bool]:
    """Return a reply within its limits, its parts (None if it is all answer), and whether it reached one.

    This is for engines that do not separate the parts while they generate.
    """
    if reply is None:
        return list(tokens), None, False
    reader = reply.reader()
    place = 0
    while not (
        full := reader.is_full(answer=sampling.max_new_tokens, thinking=thinking_limit(sampling))
    ) and place < len(tokens):
        reader.feed(tokens[place])
        place += 1
    return list(tokens[:place]), reader.spans if reader.marked else None, full


def length_limit(reply: ReplyFormat | None, sampling: Sampling) -> int:
    """Return the number of tokens to generate for a reply whose parts are separated only afterwards."""
    thinks = reply is not None and reply.marks.thinks and not reply.closed
    return sampling.max_new_tokens + (thinking_limit(sampling) if thinks else 0)


def longest_marked(sampling: Sampling) -> int:
    """Return the maximum number of tokens of a reply with all its marks, which are neither part's."""
    return 2 * (sampling.max_new_tokens + thinking_limit(sampling)) + MARK_TOKENS


def check_reply_parts(name: str, plan: Plan | None, tokens: str, reply: ReplyFormat | None) -> None:
    """Check that a model's replies have the parts that a plan or a selection names.

    Raises:
        EngineError: If they lack one; the message names it.
    """
    wanted = set(reply_parts(plan)) if plan is not None else set()
    wanted |= {tokens} & set(PARTS)
    marks = None if reply is None else reply.marks
    known = {"answer"}
    if marks is not None and marks.thinks:
        known.add("thinking")
    if marks is not None and (marks.tool_calls is not None or marks.channels is not None):
        known.add("tool_calls")
    for part in sorted(wanted - known):
        raise EngineError(
            f"{name} asks for the {part.replace('_', ' ')} of a reply, and replies here have none",
            hint="act on or read the answer; raw token ids have no parts either",
        )
