"""Watch one reply of an engine with a monitor, and say in advance what the monitor will do in it."""

# pyright: reportPrivateUsage=false
# A watch is the part of its monitor that an engine calls.
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from personascope.dynamics.monitor._rules import Cusum, CusumTracker, MeanTracker, Threshold
from personascope.engines import Alarm, Gate
from personascope.errors import DynamicsError
from personascope.interventions import Plan

if TYPE_CHECKING:
    from personascope.dynamics.monitor._monitor import Monitor


class ReplyWatch:
    """Watch of a conversation's next reply, for ``Request.watch``.

    If the engine restarts the reply, the monitor returns to its state at the start of the reply.
    """

    def __init__(
        self, monitor: Monitor, probe: str, to_position: Callable[[float], float], *, gated: bool
    ) -> None:
        """Begin before the reply's first token.

        Args:
            monitor: Monitor of the conversation.
            probe: Name of the probe to read.
            to_position: Function from raw projection to position.
            gated: Whether the request's plan already contains the monitor's gate.
        """
        self._monitor, self._probe, self._gated = monitor, probe, gated
        self._to_position = to_position
        self._expected, self._before = 0, monitor.copy()

    def __call__(self, token: int, projections: Mapping[str, float]) -> Plan | Literal["stop"] | None:
        """Feed the monitor a token of the reply, and return what it wants done.

        Raises:
            DynamicsError: If a token is missing, or the request has no such probe.
        """
        monitor = self._monitor
        if token == 0 and self._expected:
            # The engine restarted the reply: discard the state of the first attempt.
            vars(monitor).update(vars(self._before.copy()))
            self._expected = 0
        elif token == 0:
            self._before = monitor.copy()
        if token != self._expected:
            raise DynamicsError(
                f"the watch of reply {monitor._reply} was shown token {token} after {self._expected - 1}",
                hint="give every request a watch of its own: monitor.watch()",
            )
        if self._probe not in projections:
            raise DynamicsError(
                f"the request has no probe {self._probe!r} (it has {', '.join(projections) or 'none'})",
                hint="add one along the unit axis at the monitor's layer",
            )
        if token == 0:
            monitor.begin_reply(gated=self._gated)
        self._expected += 1
        acted = monitor.feed(float(self._to_position(projections[self._probe]))).acted
        if acted == "stop":
            return "stop"
        return monitor.gate if acted == "gate" else None


class DeclaredReplyWatch(ReplyWatch):
    """A `ReplyWatch` that says in advance what it will do (`personascope.engines.DeclaredWatch`).

    Engines that cannot call a watch between two tokens run its `gate` themselves, and call it afterwards.
    """

    def __init__(self, monitor: Monitor, probe: str, units: tuple[float, float], *, gated: bool) -> None:
        """Begin before the reply's first token.

        Args:
            monitor: Monitor of the conversation, whose action is no function.
            probe: Name of the probe to read.
            units: Raw projections that are positions 0 and 1.
            gated: Whether the request's plan already contains the monitor's gate.
        """
        zero, one = units
        super().__init__(monitor, probe, lambda raw: (raw - zero) / (one - zero), gated=gated)
        self._units = zero, one

    def gate(self) -> Gate | None:
        """Return what the monitor does in the reply that begins now; None if it only looks on."""
        monitor = self._monitor
        if monitor.alarmed_at is None:
            action = monitor.on_alarm
            assert not callable(action)
            return None if action is None else Gate(self._probe, action, self._alarm(at_once=False))
        if monitor.stopped:
            return Gate(self._probe, "stop", self._alarm(at_once=True))
        if monitor.gate is not None and not self._gated:
            return Gate(self._probe, monitor.gate, self._alarm(at_once=True))
        return None

    def _alarm(self, *, at_once: bool) -> Alarm:
        zero, one = map(float, self._units)
        rule, tracker = self._monitor.rule, self._monitor._tracker
        if isinstance(rule, Cusum) and isinstance(tracker, CusumTracker):
            base, reply = rule.baseline, self._monitor._reply + 1
            offset = base.by_reply[min(reply, len(base.by_reply) - 1)]
            return Alarm(
                zero,
                one,
                rule.threshold,
                at_once,
                tuple(mean + offset for mean in base.by_token),
                base.spread,
                base.warmup,
                base.persistence,
                base.residual_sd,
                rule.allowance,
                *tracker.standardise.state,
                tracker.total,
            )
        assert isinstance(rule, Threshold) and isinstance(tracker, MeanTracker)
        return Alarm(zero, one, rule.threshold, at_once, window=rule.window, last=tuple(tracker.last))
