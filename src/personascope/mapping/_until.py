"""What an adaptive run stops at: a precision of the axis or of role positions, or a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from personascope.errors import UsageError
from personascope.judge import Judge

FORMS = "axis=0.95, roles=0.3, tokens=2e6, minutes=10 or cost=1.5"


@dataclass(frozen=True, slots=True)
class Until:
    """What a run stops at; the first that is met stops it, and None is not asked for.

    Attributes:
        axis: Split-half cosine of the axis, above 0 and below 1, at the middle layer. It is met when the
            axis's cosine with that of unlimited questions is at least ``sqrt(2 r / (1 + r))`` with 95%
            confidence (0.987 for 0.95), in two looks running.
        roles: Half-width of the 95% interval of every role's position (0 the mean role, 1 the default), in
            two looks running.
        tokens: Number of response tokens of the run.
        minutes: Wall time of one call, in minutes; how far it gets is not reproducible.
        cost: Cost of judging in one call, in the currency of the judge's prices.
    """

    axis: float | None = None
    roles: float | None = None
    tokens: float | None = None
    minutes: float | None = None
    cost: float | None = None

    @property
    def goals(self) -> dict[str, float]:
        """The precisions, which decide what is asked next and are part of a run's identity."""
        return {name: value for name in ("axis", "roles") if (value := getattr(self, name)) is not None}

    @property
    def texts(self) -> tuple[str, ...]:
        """What was asked for, as it is written: "axis=0.95"."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple(written(name, value) for name, value in given if value is not None)


def written(name: str, value: float) -> str:
    """Return a criterion as it is given on the command line."""
    return f"{name}={value:.10g}"


def read_until(given: Until | Mapping[str, float] | Sequence[str] | str | None) -> Until | None:
    """Check what a run is to stop at; None if nothing is given.

    Args:
        given: Criteria as text ("axis=0.95"), several of them, or a mapping of names to values.

    Raises:
        UsageError: If a criterion is unknown, given twice, no number, or out of its range.
    """
    if given is None or isinstance(given, Until):
        pairs = {} if given is None else {name: getattr(given, name) for name in _NAMES}
        pairs = {name: value for name, value in pairs.items() if value is not None}
    elif isinstance(given, Mapping):
        pairs = {str(name): value for name, value in given.items()}
    else:
        pairs = _split([given] if isinstance(given, str) else given)
    for name, value in pairs.items():
        if name not in _NAMES:
            raise UsageError(f"a map cannot run until {name!r}", hint=f"give {FORMS}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"--until {name}={value} is no number", hint=f"give {FORMS}")
        if value <= 0 or (name == "axis" and value >= 1):
            allowed = "above 0 and below 1" if name == "axis" else "above 0"
            raise UsageError(f"--until {name}={value:g} cannot be reached", hint=f"give a number {allowed}")
    return Until(**pairs) if pairs else None


def check_until(until: Until | None, judge: Judge | None) -> None:
    """Check that a budget of money has prices to be counted in.

    Raises:
        UsageError: If no judge of the run has prices.
    """
    if until is None or until.cost is None:
        return
    if judge is None or judge.stats.cost is None:
        raise UsageError(
            f"--until cost={until.cost:g} has no prices to count in",
            hint="give --judge-price IN,OUT with a judge that a server runs, or another budget",
        )


_NAMES = tuple(field.name for field in fields(Until))


def _split(given: Sequence[str]) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--until {text!r} names no value", hint=f"give {FORMS}")
        if name in pairs:
            raise UsageError(f"--until {name} is given twice", hint="give each criterion once")
        try:
            pairs[name] = float(value)
        except ValueError:
            raise UsageError(f"--until {text!r} is no number", hint=f"give {FORMS}") from None
    return pairs
