"""The learning curve of a map: what was known of its axis and its roles after how many responses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from personascope.space._precision import Precision


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What was known after a round; values that could not be measured yet are None.

    Attributes:
        round: Number of the round, from 1; in a map of a fixed design, number of blocks of questions.
        kind: What the round asked: "opening", "balanced", "default", "widest", or "block".
        rollouts: Number of responses so far.
        tokens: Number of tokens of these responses.
        vectors: Number of roles with a vector.
        split_half: Median cosine of the axes of random halves of the questions.
        split_half_low: Lower 95% bound of what it would be without luck (`Precision`).
        half_width: Median half-width of the 95% intervals of the roles' positions.
        widest: The largest of these half-widths.
    """

    round: int
    kind: str
    rollouts: int
    tokens: int
    vectors: int = 0
    split_half: float | None = None
    split_half_low: float | None = None
    half_width: float | None = None
    widest: float | None = None


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """A learning curve, and what ended an adaptive run.

    Attributes:
        layer: Layer that the figures are of.
        points: One point a look, in order.
        until: What the run was to reach, such as "axis=0.95"; empty for a fixed design.
        stop: Which of them ended it, or "maximum" if the design was asked whole; "" for a fixed design.
    """

    layer: int
    points: tuple[CurvePoint, ...]
    until: tuple[str, ...] = ()
    stop: str = ""

    @property
    def reached(self) -> bool:
        """Whether a precision that was asked for ended the run, and not a budget or the maximum."""
        return self.stop.split("=")[0] in ("axis", "roles")

    @property
    def summary(self) -> str:
        """What the last look found, as text for people; "" if nothing could be measured."""
        last = self.points[-1] if self.points else None
        if last is None or last.split_half is None:
            return ""
        text = f"split-half {last.split_half:.3f}"
        if last.split_half_low is not None:
            text += f" (at least {last.split_half_low:.3f})"
        if last.half_width is not None and last.widest is not None:
            text += f"; role positions ±{last.half_width:.2f}, the widest ±{last.widest:.2f}"
        return text

    @property
    def record(self) -> dict[str, Any]:
        """The curve as JSON values."""
        return {
            "layer": self.layer,
            "points": [asdict(point) for point in self.points],
            "until": list(self.until),
            "stop": self.stop,
        }


def curve_point(round: int, kind: str, rollouts: int, tokens: int, precision: Precision | None) -> CurvePoint:
    """Return the point of a look; ``precision`` is None if the responses do not suffice for a space yet."""
    if precision is None:
        return CurvePoint(round, kind, rollouts, tokens)
    return CurvePoint(
        round,
        kind,
        rollouts,
        tokens,
        len(precision.roles),
        _number(precision.split_half),
        _number(precision.split_half_low),
        _number(float(np.median(precision.half_widths))),
        _number(float(precision.half_widths.max())),
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
