"""Alarms as numbers, so that a worker can raise one inside a reply without asking anybody.

A watch is a function that an engine calls between two tokens. A worker of vLLM has nobody to call there. A
watch that can say in advance what it will do has a method ``gate``, which returns its `Gate`: a probe, an
action, and an `Alarm`, which is a rule of the drift monitor with the state in which it begins the reply. The
arithmetic is that of the monitor, operation by operation, so both raise the alarm after the same token.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from personascope.errors import EngineError
from personascope.interventions import Plan

MAX_NUMBERS = 65_536
"""Maximum length of a list of numbers in an alarm that comes from outside."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Rule of an alarm, and its state at the start of a reply.

    A token's position is (projection - zero) / (one - zero). With ``spread`` the rule is a CUSUM of the
    positions' deviations; without it, it is a threshold on the mean of the last ``window`` positions.

    Attributes:
        zero: Projection that is position 0, that of the mean role.
        one: Projection that is position 1, that of the default.
        threshold: Value of the statistic above which the alarm is on.
        at_once: Whether to act after the first token, whatever it is (an alarm of an earlier reply).
        mean: Usual position by the token's index in the reply; the last entry holds for all later tokens.
        spread: Standard deviation by the token's index, likewise; empty for a threshold rule.
        warmup: Number of values that estimate the conversation's own offset.
        persistence: Share of the offset that later values keep.
        residual_sd: Spread of later values around that, in standard deviations.
        allowance: Slack per value, in standard deviations.
        seen: Number of values of the warmup that the conversation has had.
        total: Their sum.
        statistic: Cumulative sum so far.
        window: Number of positions in the mean of a threshold rule.
        last: Latest positions of the conversation, at most ``window``.
    """

    zero: float
    one: float
    threshold: float
    at_once: bool = False
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    warmup: int = 0
    persistence: float = 0.0
    residual_sd: float = 1.0
    allowance: float = 0.0
    seen: int = 0
    total: float = 0.0
    statistic: float = 0.0
    window: int = 1
    last: tuple[float, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the alarm as JSON values."""
        return asdict(self)

    @classmethod
    def from_record(cls, value: object) -> Alarm:
        """Read an alarm from JSON values.

        Raises:
            EngineError: If a field is unknown, missing or out of its range; the message names it.
        """
        if not isinstance(value, Mapping):
            raise _bad(f"is a {type(value).__name__}, not an object")
        unknown = sorted(set(value) - set(cls.__dataclass_fields__))
        if unknown:
            raise _bad(f"has an unknown field {unknown[0]!r}")
        missing = [name for name in ("zero", "one", "threshold") if name not in value]
        if missing:
            raise _bad(f"has no {missing[0]}")
        fields: dict[str, Any] = {}
        for name, given in value.items():
            if name in ("mean", "spread", "last"):
                fields[name] = _numbers(name, given)
            elif name in ("warmup", "seen", "window"):
                fields[name] = _count(name, given)
            elif name == "at_once":
                if not isinstance(given, bool):
                    raise _bad(f"has at_once {given!r}, where true or false is needed")
                fields[name] = given
            else:
                fields[name] = _number(name, given)
        alarm = cls(**fields)
        if alarm.zero == alarm.one:
            raise _bad("has the same projection for positions 0 and 1")
        if bool(alarm.mean) != bool(alarm.spread) or not all(alarm.spread) or not alarm.residual_sd:
            raise _bad("needs mean and spread together, and a spread that is not 0")
        if alarm.window < 1 or len(alarm.last) > alarm.window or alarm.seen > alarm.warmup:
            raise _bad("has more values than its window or its warmup holds")
        return alarm

    def start(self) -> AlarmState:
        """Return the running statistic of one reply."""
        return AlarmState(self)


class AlarmState:
    """Running statistic of one reply.

    Attributes:
        alarm: Rule and initial state.
        token: Number of tokens that it has read.
        statistic: Statistic after the latest of them.
    """

    __slots__ = ("_last", "_seen", "_total", "alarm", "statistic", "token")

    def __init__(self, alarm: Alarm) -> None:
        """Begin a reply."""
        self.alarm = alarm
        self.token = 0
        self.statistic = alarm.statistic
        self._seen, self._total = alarm.seen, alarm.total
        self._last: deque[float] = deque(alarm.last, maxlen=alarm.window)

    def update(self, projection: float) -> bool:
        """Read the projection of the reply's next token, and return whether to act after it."""
        of, token = self.alarm, self.token
        self.token += 1
        value = (projection - of.zero) / (of.one - of.zero)
        if not math.isfinite(value):
            # The engine refuses a response with such a value.
            return False
        if of.spread:
            z = self._deviation(value, token)
            self.statistic = max(0.0, self.statistic - z - of.allowance)
        else:
            self._last.append(value)
            full = len(self._last) == of.window
            self.statistic = -math.fsum(self._last) / len(self._last) if full else -math.inf
        return (of.at_once and token == 0) or self.statistic > of.threshold

    def _deviation(self, value: float, token: int) -> float:
        of = self.alarm
        z = (value - of.mean[min(token, len(of.mean) - 1)]) / of.spread[min(token, len(of.spread) - 1)]
        if self._seen < of.warmup:
            self._seen += 1
            self._total += z
            return z
        return (z - of.persistence * self._total / of.warmup) / of.residual_sd if of.warmup else z


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """What a watch does in one reply, known before the reply begins.

    Attributes:
        probe: Name of the probe whose projections it reads.
        action: Plan to switch on from the next token on, or "stop" to end the reply after the token.
        alarm: When.
    """

    probe: str
    action: Plan | Literal["stop"]
    alarm: Alarm


@runtime_checkable
class DeclaredWatch(Protocol):
    """A watch that says in advance what it will do, for engines that cannot call it between tokens."""

    def gate(self) -> Gate | None:
        """Return what it does in the reply that begins now; None if it only looks on."""
        ...


class GateWatch:
    """Watch that does what a gate says, for engines that call one between two tokens.

    A worker of vLLM raises the alarm of such a gate by itself, after the same token.

    Attributes:
        tokens: Response tokens that the alarm reads: "response", or the name of a part.
    """

    def __init__(self, gate: Gate, tokens: str = "response") -> None:
        """Begin before the reply's first token."""
        self.tokens = tokens
        self._gate = gate
        self._state: AlarmState | None = None

    def gate(self) -> Gate:
        """Return what it does in the reply."""
        return self._gate

    def __call__(self, token: int, projections: Mapping[str, float]) -> Plan | Literal["stop"] | None:
        """Read a token's projection, and return the gate's action once, after the alarm."""
        if token == 0:
            # An engine that begins the reply anew begins here too.
            self._state = self._gate.alarm.start()
        if self._state is None or not self._state.update(projections[self._gate.probe]):
            return None
        self._state = None
        return self._gate.action


def lacks_probe(name: str) -> EngineError:
    """Return the error of a gate that reads a probe that its request does not have."""
    return EngineError(
        f"the gate reads the probe {name!r}, which the request does not have",
        hint="give the request that probe, along the unit axis at the monitor's layer",
    )


def acts_too_late() -> EngineError:
    """Return the error of a gate whose plan acts on the prompt alone."""
    return EngineError(
        "the gate switches on a plan that acts on the prompt alone, which has passed by then",
        hint="make its operations act on all tokens or on the response",
    )


def lacks_parts(what: str) -> EngineError:
    """Return the error of a gate or a plan that needs the parts of a response, which are not known.

    Args:
        what: What it does, such as "the gate reads the thinking".
    """
    return EngineError(
        f"{what}, and the request does not say how the parts of the response are told apart",
        hint="send a conversation, whose template has them, or act on the whole response",
    )


def _bad(what: str) -> EngineError:
    return EngineError(
        f"the alarm of a gate {what}", hint="make it with monitor.watch().gate().alarm.record()"
    )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _bad(f"has {name} {value!r}"[:200] + ", where a finite number is needed")
    return float(value)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_NUMBERS:
        raise _bad(f"has {name} {value!r}"[:200] + f", where a number from 0 to {MAX_NUMBERS} is needed")
    return value


def _numbers(name: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_NUMBERS:
        raise _bad(f"has a {name} that is no list of at most {MAX_NUMBERS} numbers")
    return tuple(_number(name, one) for one in value)
