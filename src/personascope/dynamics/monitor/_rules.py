"""Alarm rules: CUSUM, and a plain threshold.

A rule turns a conversation's positions, in order, into a statistic that rises with drift; it raises the
alarm while the statistic is above its threshold (how that is set: `_conformal`).
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from jaxtyping import Float

from personascope.dynamics.monitor._baseline import (
    Level,
    MonitorBaseline,
    Positions,
    Standardiser,
    check_level,
    digest_of,
    replies_of,
)
from personascope.errors import DynamicsError, UsageError
from personascope.space import PersonaMap
from personascope.stats import Calibration, conformal_threshold

ALLOWANCES: dict[Level, float] = {"turn": 0.5, "token": 0.25}
"""Half of the shift, in standard deviations, that a CUSUM finds soonest, by default."""

WINDOWS: dict[Level, int] = {"turn": 1, "token": 32}
"""Values whose mean a plain threshold reads, by default: single tokens are too noisy for one."""


class Tracker(Protocol):
    """A rule's state in one conversation."""

    def update(self, value: float, reply: int, token: int) -> float:
        """Take the next value (NaN: an empty reply) and return the statistic."""
        ...

    def copy(self) -> Self:
        """Return an independent one in the same state."""
        ...


class Rule(Protocol):
    """When a monitor raises its alarm: `Cusum` or `Threshold`."""

    @property
    def level(self) -> Level:
        """Whether it reads replies or tokens."""
        ...

    @property
    def threshold(self) -> float:
        """The alarm stands while the statistic is above it."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """How the threshold was set; None if by hand or from a map."""
        ...

    def tracker(self) -> Tracker:
        """Begin a conversation."""
        ...

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, as feeding them one by one does."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        ...


@dataclass(frozen=True, slots=True)
class Cusum:
    """Adds up how far positions lie below what is usual at their place, less an allowance.

    S = max(0, S - z - allowance), z the position's deviation from the baseline in standard deviations. A
    small shift that lasts is found long before any single value is low.

    Attributes:
        baseline: Usual positions.
        threshold: The alarm stands while S is above it.
        allowance: What each value is forgiven, in standard deviations: half the shift looked for.
        calibration: How the threshold was set; None if by hand.
    """

    baseline: MonitorBaseline
    threshold: float
    allowance: float
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no rule."""
        for name in ("threshold", "allowance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DynamicsError(f"a CUSUM has {name} {value}", hint="give a number that is not negative")

    @classmethod
    def calibrated(
        cls,
        baseline: MonitorBaseline,
        conversations: Sequence[Positions],
        *,
        false_alarms: float = 0.05,
        allowance: float | None = None,
        horizon: int | None = None,
    ) -> Cusum:
        """Set the threshold so that few Assistant-like conversations raise an alarm.

        Args:
            baseline: Fitted on other conversations than these.
            conversations: Assistant-like ones, of the baseline's level.
            false_alarms: Share of such conversations that may raise an alarm, between 0 and 1.
            allowance: Half the shift looked for, in standard deviations (0.5 of turns, 0.25 of tokens).
            horizon: Values, turns or tokens, within which the rate shall hold; the longest conversation.

        Raises:
            DynamicsError: If there are too few conversations for the rate, or one was fitted on.
        """
        allowance = ALLOWANCES[baseline.level] if allowance is None else allowance
        traces = [replies_of(c, baseline.level, f"conversation {i}") for i, c in enumerate(conversations)]
        both = [i for i, trace in enumerate(traces) if digest_of(trace) in set(baseline.fitted_on)]
        if both:
            raise DynamicsError(
                f"{len(both)} of {len(traces)} calibration conversations (the first is number {both[0]}) "
                "were fitted on",
                hint="fit mean and spread on some conversations and set the threshold on others",
            )
        plain = cls(baseline, 0.0, allowance)
        threshold, calibration = conformal_threshold(
            [_trace(plain, trace) for trace in traces], false_alarms, horizon
        )
        return replace(plain, threshold=threshold, calibration=calibration)

    @property
    def level(self) -> Level:
        """Whether it reads replies or tokens."""
        return self.baseline.level

    def tracker(self) -> Tracker:
        """Begin a conversation."""
        return _CusumTracker(self.baseline.standardiser(), self.allowance)

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, as feeding them one by one does."""
        return np.array(_trace(self, replies_of(positions, self.level, "the conversation")))

    def record(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return {
            "rule": "cusum",
            "threshold": self.threshold,
            "allowance": self.allowance,
            "baseline": self.baseline.record(),
            "calibration": None if self.calibration is None else asdict(self.calibration),
        }


@dataclass(frozen=True, slots=True)
class Threshold:
    """Raises the alarm while the mean of the last few positions lies under a limit.

    The statistic is that mean with its sign turned, so that it rises with drift; it is minus infinity
    until there are as many values.

    Attributes:
        level: "turn" or "token".
        limit: In units of the map: 0 the mean role, 1 the default.
        window: Values of the mean.
        calibration: How the limit was set; None if by hand or by a percentile of a map.
        name: Where the limit came from, for reports.
    """

    level: Level
    limit: float
    window: int = 1
    calibration: Calibration | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that make no rule."""
        check_level(self.level)
        if not math.isfinite(self.limit):
            raise DynamicsError(f"a threshold has the limit {self.limit}", hint="give a finite position")
        if self.window < 1:
            raise DynamicsError(f"a threshold reads the mean of {self.window} values", hint="give 1 or more")

    @classmethod
    def calibrated(
        cls,
        conversations: Sequence[Positions],
        level: Level,
        *,
        false_alarms: float = 0.05,
        window: int | None = None,
        horizon: int | None = None,
    ) -> Threshold:
        """Set the limit so that few Assistant-like conversations raise an alarm, as `Cusum.calibrated` does.

        Args:
            conversations: Assistant-like ones.
            level: "turn" or "token".
            false_alarms: Share of such conversations that may raise an alarm, between 0 and 1.
            window: Values whose mean is read (1 turn, 32 tokens).
            horizon: Values, turns or tokens, within which the rate shall hold; the longest conversation.

        Raises:
            DynamicsError: If there are too few conversations for the rate, or they are too short.
        """
        check_level(level)
        traces = [replies_of(c, level, f"conversation {i}") for i, c in enumerate(conversations)]
        plain = cls(level, 0.0, WINDOWS[level] if window is None else window, name="calibrated")
        threshold, calibration = conformal_threshold(
            [_trace(plain, trace) for trace in traces], false_alarms, horizon
        )
        return replace(plain, limit=-threshold, calibration=calibration)

    @classmethod
    def at_percentile(
        cls,
        persona_map: PersonaMap,
        percentile: float = 5,
        layer: int | None = None,
        *,
        of: str = "default",
        level: Level = "turn",
        window: int | None = None,
    ) -> Threshold:
        """Take a percentile of single responses of the map's rollouts as the limit.

        Nothing is known of its false-alarm rate in conversations: those responses answer one question each.

        Args:
            persona_map: A map.
            percentile: Share of responses, in percent, that lie below; 1 to 99, between the map's
                percentiles on a straight line.
            layer: The map's middle layer by default.
            of: "default" or "role": which responses.
            level: "turn" or "token".
            window: Values whose mean is read (1 turn, 32 tokens): the percentiles are of whole replies.

        Raises:
            UsageError: If the map has no such layer, percentile or group.
        """
        check_level(level)
        at = persona_map.middle_layer if layer is None else layer
        known = persona_map.quantiles
        if of not in ("default", "role"):
            raise UsageError(f"a map has no percentiles of {of!r}", hint="give default or role")
        if not known.percentiles[0] <= percentile <= known.percentiles[-1]:
            raise UsageError(
                f"percentile {percentile} is not in the map",
                hint=f"give {known.percentiles[0]} to {known.percentiles[-1]}, in percent",
            )
        if not 0 <= at < persona_map.n_layers:
            raise UsageError(f"layer {at} is not in the map", hint=f"choose 0 to {persona_map.n_layers - 1}")
        raw = np.interp(percentile, known.percentiles, getattr(known, of)[at])
        name = f"percentile {percentile:g} of {of} responses at layer {at}"
        limit = float(persona_map.to_units(raw, at))
        return cls(level, limit, WINDOWS[level] if window is None else window, name=name)

    @property
    def threshold(self) -> float:
        """The alarm stands while the statistic, the mean position with its sign turned, is above it."""
        return -self.limit

    def tracker(self) -> Tracker:
        """Begin a conversation."""
        return _MeanTracker(deque(maxlen=self.window))

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, as feeding them one by one does."""
        return np.array(_trace(self, replies_of(positions, self.level, "the conversation")))

    def record(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return {"rule": "threshold", **asdict(self)}


def first_alarm(rule: Rule, positions: Positions, horizon: int | None = None) -> int | None:
    """Return after how many values the first alarm is raised, 1 for the first; None if none is.

    Args:
        rule: An alarm rule.
        positions: A conversation.
        horizon: Values that are looked at; all of them by default.
    """
    over = rule.statistic(positions)[:horizon] > rule.threshold
    return int(over.argmax()) + 1 if over.any() else None


@dataclass(slots=True)
class _CusumTracker:
    standardise: Standardiser
    allowance: float
    total: float = 0.0

    def update(self, value: float, reply: int, token: int) -> float:
        z = self.standardise(value, reply, token)
        if z == z:
            self.total = max(0.0, self.total - z - self.allowance)
        return self.total

    def copy(self) -> Self:
        return replace(self, standardise=copy.copy(self.standardise))


@dataclass(slots=True)
class _MeanTracker:
    last: deque[float]

    def update(self, value: float, reply: int, token: int) -> float:  # noqa: ARG002 (a Tracker's)
        if value == value:
            self.last.append(value)
        return -math.fsum(self.last) / len(self.last) if len(self.last) == self.last.maxlen else -math.inf

    def copy(self) -> Self:
        return replace(self, last=self.last.copy())


def _trace(rule: Rule, replies: list[list[float]]) -> list[float]:
    """Return the statistic after each value, summed one by one: feeding must give the same bits."""
    tracker = rule.tracker()
    return [
        tracker.update(value, reply, token)
        for reply, values in enumerate(replies)
        for token, value in enumerate(values)
    ]
