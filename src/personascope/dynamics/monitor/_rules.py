"""Alarm rules: CUSUM, and a plain threshold.

A rule turns a conversation's positions, in order, into a statistic that rises with drift. The alarm is on
while the statistic is above the threshold, which `conformal_threshold` sets.
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
"""Default allowance of a CUSUM: half the shift, in standard deviations, that it detects fastest."""

WINDOWS: dict[Level, int] = {"turn": 1, "token": 32}
"""Default number of values whose mean a plain threshold reads; single tokens are too noisy."""


class Tracker(Protocol):
    """State of a rule in one conversation."""

    def update(self, value: float, reply: int, token: int) -> float:
        """Add the next value (NaN for an empty reply) and return the statistic."""
        ...

    def copy(self) -> Self:
        """Return an independent tracker in the same state."""
        ...


class Rule(Protocol):
    """Rule that raises a monitor's alarm: `Cusum` or `Threshold`."""

    @property
    def level(self) -> Level:
        """Whether the rule reads replies or tokens."""
        ...

    @property
    def threshold(self) -> float:
        """Value of the statistic above which the alarm is on."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """How the threshold was set; None if by hand or from a map."""
        ...

    def tracker(self) -> Tracker:
        """Return a new tracker for a conversation."""
        ...

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, bit for bit as a tracker gives it."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        ...


@dataclass(frozen=True, slots=True)
class Cusum:
    """CUSUM rule: sum how far positions fall below the baseline, less an allowance per value.

    S = max(0, S - z - allowance), where z is the position's deviation from the baseline in standard
    deviations. It detects a small lasting shift long before any single value is low.

    Attributes:
        baseline: Mean and spread of Assistant-like positions.
        threshold: Value of S above which the alarm is on.
        allowance: Slack per value, in standard deviations: half the shift to detect.
        calibration: How the threshold was set; None if by hand.
    """

    baseline: MonitorBaseline
    threshold: float
    allowance: float
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
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
        """Set the threshold that bounds the share of Assistant-like conversations with an alarm.

        Args:
            baseline: Baseline that was fitted on other conversations than these.
            conversations: Assistant-like conversations, of the baseline's level.
            false_alarms: Target share of such conversations that raise an alarm, between 0 and 1.
            allowance: Half the shift to detect, in standard deviations (by default 0.5 for turns, 0.25 for
                tokens).
            horizon: Number of turns or tokens within which the rate must hold; by default the longest
                conversation.

        Raises:
            DynamicsError: If there are too few conversations for the rate, or the baseline was fitted on
                one.
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
        """Whether the rule reads replies or tokens."""
        return self.baseline.level

    def tracker(self) -> Tracker:
        """Return a new tracker for a conversation."""
        return CusumTracker(self.baseline.standardiser(), self.allowance)

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, bit for bit as a tracker gives it."""
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
    """Threshold rule: the alarm is on while the mean of the last few positions is below a limit.

    The statistic is the negated mean, so that it rises with drift. It is minus infinity until the window is
    full.

    Attributes:
        level: "turn" or "token".
        limit: Lowest mean position without an alarm, in units of the map (mean role 0, default 1).
        window: Number of values in the mean.
        calibration: How the limit was set; None if by hand or from a percentile of a map.
        name: Origin of the limit, for reports.
    """

    level: Level
    limit: float
    window: int = 1
    calibration: Calibration | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
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
        """Set the limit that bounds the share of Assistant-like conversations with an alarm.

        Args:
            conversations: Assistant-like conversations.
            level: "turn" or "token".
            false_alarms: Target share of such conversations that raise an alarm, between 0 and 1.
            window: Number of values in the mean (by default 1 turn, 32 tokens).
            horizon: Number of turns or tokens within which the rate must hold; by default the longest
                conversation.

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
        """Set the limit to a percentile of the single responses in the map's rollouts.

        Its false-alarm rate in conversations is unknown, because those responses answer one question each.

        Args:
            persona_map: Map whose percentiles are used.
            percentile: Share of responses below the limit, in percent, within the range of the map's
                percentiles; linearly interpolated between them.
            layer: Layer of the percentiles; the map's middle layer by default.
            of: Which responses: "default" or "role".
            level: "turn" or "token".
            window: Number of values in the mean (by default 1 turn, 32 tokens). The percentiles are of whole
                replies.

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
        """Value of the statistic (the negated mean position) above which the alarm is on."""
        return -self.limit

    def tracker(self) -> Tracker:
        """Return a new tracker for a conversation."""
        return MeanTracker(deque(maxlen=self.window))

    def statistic(self, positions: Positions) -> Float[np.ndarray, "n"]:
        """Return the statistic after each value of a conversation, bit for bit as a tracker gives it."""
        return np.array(_trace(self, replies_of(positions, self.level, "the conversation")))

    def record(self) -> dict[str, Any]:
        """Return the rule as JSON values."""
        return {"rule": "threshold", **asdict(self)}


def first_alarm(rule: Rule, positions: Positions, horizon: int | None = None) -> int | None:
    """Return the number of values fed when the first alarm is raised, from 1; None without an alarm.

    Args:
        rule: Alarm rule.
        positions: Positions of a conversation.
        horizon: Number of values to read; all by default.
    """
    over = rule.statistic(positions)[:horizon] > rule.threshold
    return int(over.argmax()) + 1 if over.any() else None


@dataclass(slots=True)
class CusumTracker:
    """State of a `Cusum`."""

    standardise: Standardiser
    allowance: float
    total: float = 0.0

    def update(self, value: float, reply: int, token: int) -> float:
        """Add the next value (NaN for an empty reply) and return the statistic."""
        z = self.standardise(value, reply, token)
        if z == z:
            self.total = max(0.0, self.total - z - self.allowance)
        return self.total

    def copy(self) -> Self:
        """Return an independent tracker in the same state."""
        return replace(self, standardise=copy.copy(self.standardise))


@dataclass(slots=True)
class MeanTracker:
    """State of a `Threshold`."""

    last: deque[float]

    def update(self, value: float, reply: int, token: int) -> float:  # noqa: ARG002 (a Tracker's)
        """Add the next value (NaN for an empty reply) and return the statistic."""
        if value == value:
            self.last.append(value)
        return -math.fsum(self.last) / len(self.last) if len(self.last) == self.last.maxlen else -math.inf

    def copy(self) -> Self:
        """Return an independent tracker in the same state."""
        return replace(self, last=self.last.copy())


def _trace(rule: Rule, replies: list[list[float]]) -> list[float]:
    """Return the statistic after each value; a tracker computes it, to match live feeding bit for bit."""
    tracker = rule.tracker()
    return [
        tracker.update(value, reply, token)
        for reply, values in enumerate(replies)
        for token, value in enumerate(values)
    ]
