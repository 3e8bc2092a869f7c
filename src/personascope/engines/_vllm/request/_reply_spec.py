"""What the worker must know of a reply and of a gate, as values of a request's spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.chat import PARTS, Channels, ReplyFormat, ReplyMarks
from personascope.engines._gate import Alarm
from personascope.errors import EngineError

OPENED = ("thinking", "answer", "header")
"""Parts in which a generation prompt may leave a reply."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ReplySpec:
    """How the tokens of a reply are assigned to its parts, and where the reply ends.

    Attributes:
        opened: Part that the generation prompt leaves open.
        thinking: Opening and closing mark of reasoning, or None.
        answer: Marks of the answer, or None.
        tool_calls: Marks of tool calls, or None.
        channels: The fields of `Channels` in their order, or None.
        answer_tokens: Maximum number of answer tokens; None for no limit besides vLLM's.
        thinking_tokens: Maximum number of tokens before the answer; None for no limit besides vLLM's.
        last: Whether the last token within these limits passes through the model (activations are read).
        tail: Tokens with which the prompt must end, if the caller did not render it; empty if it did.
    """

    opened: str
    thinking: Pair | None = None
    answer: Pair | None = None
    tool_calls: Pair | None = None
    channels: tuple[Any, ...] | None = None
    answer_tokens: int | None = None
    thinking_tokens: int | None = None
    last: bool = True
    tail: tuple[int, ...] = ()

    @classmethod
    def of(cls, reply: ReplyFormat, **more: Any) -> ReplySpec:
        """Return the spec of a format; ``more`` are further fields."""
        marks, channels = reply.marks, reply.marks.channels
        told = None
        if channels is not None:
            ends = tuple(sorted(channels.end))
            told = (channels.begin, channels.channel, channels.body, ends, channels.thinking, channels.answer)
        return cls(reply.opened, marks.thinking, marks.answer, marks.tool_calls, told, **more)

    @property
    def marks(self) -> ReplySpec:
        """The marks alone, without limits."""
        return ReplySpec(self.opened, self.thinking, self.answer, self.tool_calls, self.channels)

    def format(self, tokenizer: Any) -> ReplyFormat:
        """Return the format, for a tokenizer of the model."""
        channels = None
        if self.channels is not None:
            begin, channel, body, end, thinking, answer = self.channels
            channels = Channels(begin, channel, body, frozenset(end), thinking, answer)
        marks = ReplyMarks("", self.thinking, self.answer, self.tool_calls, channels)
        return ReplyFormat(tokenizer, marks, self.opened)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A plan, or the end of the reply, that an alarm switches on inside the worker.

    Attributes:
        plan: Digest of the plan; None to end the reply.
        probe: Name of the probe, among those of the request, whose projections the alarm reads; "" if ``at``
            is given.
        tokens: Response tokens that it reads: "response", or the name of a part.
        alarm: The alarm; None if ``at`` is given.
        at: Position from which the plan acts, where it is known (a response that is fed again).
    """

    plan: str | None
    probe: str = ""
    tokens: str = "response"
    alarm: Alarm | None = None
    at: int | None = None


def read_reply_spec(value: object) -> ReplySpec | None:
    """Read a `ReplySpec` from JSON values; None for None.

    Raises:
        ValueError: If it is malformed.
    """
    if value is None:
        return None
    fields = _fields(value, ReplySpec, "reply")
    if fields.get("opened") not in OPENED:
        raise ValueError(f"has a reply opened in {fields.get('opened')!r}")
    channels = fields.get("channels")
    if channels is not None:
        begin, channel, body, ends, thinking, answer = channels
        texts = (begin, channel, body, thinking, answer, *ends)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("has channels that are no texts")
        channels = (begin, channel, body, tuple(ends), thinking, answer)
    if not isinstance(fields.get("last", True), bool):
        raise ValueError("has a reply whose last is neither true nor false")
    return ReplySpec(
        fields["opened"],
        thinking=_pair(fields.get("thinking")),
        answer=_pair(fields.get("answer")),
        tool_calls=_pair(fields.get("tool_calls")),
        channels=channels,
        answer_tokens=_limit(fields.get("answer_tokens")),
        thinking_tokens=_limit(fields.get("thinking_tokens")),
        last=fields.get("last", True),
        tail=tuple(_token(token) for token in fields.get("tail") or ()),
    )


def read_gate_spec(value: object) -> GateSpec | None:
    """Read a `GateSpec` from JSON values; None for None.

    Raises:
        ValueError: If it is malformed.
        EngineError: If its alarm is.
    """
    if value is None:
        return None
    fields = _fields(value, GateSpec, "gate")
    plan, probe, tokens = fields.get("plan"), fields.get("probe", ""), fields.get("tokens", "response")
    if plan is not None and not isinstance(plan, str):
        raise ValueError(f"has a gate with the plan {plan!r}")
    if not isinstance(probe, str) or tokens not in ("response", *PARTS):
        raise ValueError(f"has a gate that reads {tokens!r} on the probe {probe!r}")
    at = _limit(fields.get("at"))
    alarm = None if fields.get("alarm") is None else Alarm.from_record(fields["alarm"])
    if (at is None) == (alarm is None):
        raise ValueError("has a gate with neither an alarm nor a position, or with both")
    return GateSpec(plan, probe, tokens, alarm, at)


def read_parts(value: object) -> tuple[tuple[int, str], ...]:
    """Read first position and name of the parts of text that exists.

    Raises:
        ValueError: If they are malformed.
    """
    found: list[tuple[int, str]] = []
    for start, part in value or ():  # pyright: ignore
        if not isinstance(part, str) or (found and _token(start) <= found[-1][0]):
            raise ValueError(f"has the part {part!r} at {start!r}")
        found.append((_token(start), part))
    return tuple(found)


def check_tail(spec: ReplySpec | None, prompt: Sequence[int] | None) -> None:
    """Check that a prompt that vLLM rendered ends as the caller's rendering did.

    Raises:
        EngineError: If it ends otherwise, so that the part in which the reply begins is unknown.
    """
    if spec is None or not spec.tail:
        return
    if prompt is None or tuple(prompt[-len(spec.tail) :]) != spec.tail:
        raise EngineError(
            "the prompt does not end with the template's generation prompt, so its reply's parts are unknown",
            hint="leave out what changes the end of the prompt (continue_final_message, another template)",
        )


def _fields(value: object, kind: type, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"has a {name} that is no object")
    unknown = sorted(set(value) - set(kind.__dataclass_fields__))  # pyright: ignore
    if unknown:
        raise ValueError(f"has a {name} with an unknown field {unknown[0]!r}")
    return value  # pyright: ignore


def _pair(value: Any) -> Pair | None:
    if value is None:
        return None
    opening, closing = value
    if not isinstance(opening, str) or not isinstance(closing, str) or not opening:
        raise ValueError(f"has marks {value!r}")
    return opening, closing


def _limit(value: Any) -> int | None:
    return None if value is None else _token(value)


def _token(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"has {value!r} where a number of 0 or more is needed")
    return value
