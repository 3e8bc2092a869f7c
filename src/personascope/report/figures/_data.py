"""Input data of the evaluation figures: plain numbers, checked for consistency here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from personascope.errors import UsageError

Draws = Mapping[str, Sequence[Sequence[float]]]
"""Kind of control -> values of its K directions, one per strength each."""


class Estimated(Protocol):
    """Protocol of an estimate with limits, such as ``personascope.stats.Interval``."""

    @property
    def estimate(self) -> float:
        """The estimate."""
        ...

    @property
    def low(self) -> float:
        """The lower limit."""
        ...

    @property
    def high(self) -> float:
        """The upper limit."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its limits (NaN limits are not drawn)."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Estimated) -> Estimate:
        """Copy the numbers of an interval."""
        return cls(found.estimate, found.low, found.high)


@dataclass(frozen=True, slots=True)
class Series:
    """Estimates along a grid, with their limits.

    Raises:
        UsageError: If the three differ in length.
    """

    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        """Check the lengths."""
        same_length("the values of a series", len(self.values), {"low": self.low, "high": self.high})

    @classmethod
    def of(cls, found: Iterable[Estimated]) -> Series:
        """Copy the numbers of intervals, in order."""
        rows = [(one.estimate, one.low, one.high) for one in found]
        return cls([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


@dataclass(frozen=True, slots=True)
class SusceptibilityData:
    """Answers to "who are you?" under role prompts, by steering strength (section 3.2 of the paper).

    Attributes:
        strengths: Steering strengths as fractions of the mean norm, rising; positive is toward the Assistant.
        shares: Label -> share of the answers at each strength; drawn bottom to top in this order.
        lines: Label -> share with limits at each strength, for the labels drawn as lines.
        controls: Label of ``lines`` -> shares under controls of the same norm, at ``control_strengths``.
        control_strengths: Strengths of the controls; None for ``strengths``.
        incoherent: Share of incoherent answers at each strength, or None.
        n: Number of answers at each strength of the axis.
        n_roles: Number of roles in the answers.
        title: Title of the figure: what was measured, with the model and the layer.

    Raises:
        UsageError: If lengths differ, or the strengths do not rise.
    """

    strengths: Sequence[float]
    shares: Mapping[str, Sequence[float]]
    lines: Mapping[str, Series]
    n: int
    n_roles: int
    title: str
    controls: Mapping[str, Draws] = field(default_factory=dict)
    control_strengths: Sequence[float] | None = None
    incoherent: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the strengths, and that all curves fit them."""
        rising(self.strengths)
        count = len(self.strengths)
        same_length("the strengths", count, self.shares)
        same_length("the strengths", count, {name: line.values for name, line in self.lines.items()})
        if self.incoherent is not None:
            same_length("the strengths", count, {"incoherent": self.incoherent})
        check_draws(self.controls, self.control_strengths or self.strengths, self.lines)


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One plan of a sweep.

    Attributes:
        name: Name of the plan in the figure, for example "layers 16:24, 25th percentile".
        benefit: Benefit of the plan (more is better).
        change: Change in capability relative to no plan (negative is a loss).
        price: KL divergence from no plan on ordinary chats, in nats per token; None if not measured.
    """

    name: str
    benefit: Estimate
    change: Estimate
    price: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ParetoData:
    """A sweep of plans: benefit and cost of each (section 5 of METHOD, figure of the paper's sweep).

    Attributes:
        points: All plans of the sweep.
        front: Indices of the plans on the Pareto front.
        recommended: Index of the recommended plan, or None.
        controls: Kind of control -> plans along its directions, drawn hollow.
        benefit_label: Label of the vertical axis: name and unit.
        change_label: Label of the horizontal axis: name and unit.
        n: Sample size of a point in words: "400 answers, 164 tasks".
        title: Title of the figure: what was swept.

    Raises:
        UsageError: If an index is out of range, or there is no plan.
    """

    points: Sequence[ParetoPoint]
    front: Sequence[int]
    recommended: int | None
    benefit_label: str
    change_label: str
    n: str
    title: str
    controls: Mapping[str, Sequence[ParetoPoint]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there are points and the indices exist."""
        if not self.points:
            raise UsageError("a Pareto figure has no points", hint="give at least one plan of the sweep")
        chosen = [] if self.recommended is None else [self.recommended]
        for index in [*self.front, *chosen]:
            if not 0 <= index < len(self.points):
                raise UsageError(
                    f"plan {index} of a Pareto figure does not exist",
                    hint=f"give 0 to {len(self.points) - 1}",
                )


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """One measure under no plan, the plan, and its controls.

    Attributes:
        name: Name of the measure.
        none: Estimate under no plan.
        plan: Estimate under the plan.
        draws: Kind of control -> estimate along each of its directions.
        n: Number of items under each condition.
        share: Whether the measure is a share, drawn in percent from 0.
        unit: Unit of a measure that is no share.
        better: "lower" or "higher" if one of them is better, else "".
    """

    name: str
    none: Estimate
    plan: Estimate
    draws: Mapping[str, Sequence[Estimate]]
    n: int
    share: bool = True
    unit: str = ""
    better: str = ""


@dataclass(frozen=True, slots=True)
class ConditionsData:
    """Measures under no plan, a plan and its controls.

    Attributes:
        rows: One row per measure.
        plan: Name of the plan.
        title: Title of the figure: the model and what was done.

    Raises:
        UsageError: If there is no row.
    """

    rows: Sequence[ConditionRow]
    plan: str
    title: str

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not self.rows:
            raise UsageError("a figure of conditions has no rows", hint="give at least one measure")


@dataclass(frozen=True, slots=True)
class CompletionsData:
    """A base model's self-descriptions, by steering strength (section 3.3 of the paper).

    Attributes:
        strengths: Steering strengths as fractions of the mean norm, rising; positive is toward the Assistant.
        lines: Occupation or trait -> share of the completions with limits, one panel each.
        n: Number of completions at each strength.
        title: Title of the figure: what was measured, with the model and the layer.
        controls: Name in ``lines`` -> shares under controls, at ``control_strengths``.
        control_strengths: Strengths of the controls; None for ``strengths``.
        noun: Noun for what ``n`` counts.

    Raises:
        UsageError: If lengths differ, the strengths do not rise, or there is nothing to draw.
    """

    strengths: Sequence[float]
    lines: Mapping[str, Series]
    n: int
    title: str
    controls: Mapping[str, Draws] = field(default_factory=dict)
    control_strengths: Sequence[float] | None = None
    noun: str = "completions"

    def __post_init__(self) -> None:
        """Check the strengths, and that all curves fit them."""
        rising(self.strengths)
        if not self.lines:
            raise UsageError(
                "a figure of completions has no lines", hint="give at least one occupation or trait"
            )
        same_length("the strengths", len(self.strengths), {k: line.values for k, line in self.lines.items()})
        check_draws(self.controls, self.control_strengths or self.strengths, self.lines)


def same_length(what: str, count: int, rows: Mapping[str, Sequence[object]]) -> None:
    """Check that every row has ``count`` values.

    Raises:
        UsageError: If a row has another number of values.
    """
    for name, row in rows.items():
        if len(row) != count:
            raise UsageError(
                f"{name} has {len(row)} values, and {what} are {count}",
                hint="give one value for each, in order",
            )


def rising(strengths: Sequence[float]) -> None:
    """Check that there are strengths and that they rise strictly.

    Raises:
        UsageError: If there are none, or they do not rise.
    """
    if not strengths or any(b <= a for a, b in pairwise(strengths)):
        raise UsageError(
            f"the strengths of a figure are {list(strengths)}", hint="give them rising, each one once"
        )


def check_draws(
    controls: Mapping[str, Draws], strengths: Sequence[float], lines: Mapping[str, Series]
) -> None:
    """Check that controls belong to a line and fit the strengths.

    Raises:
        UsageError: If they do not.
    """
    rising(strengths)
    for name, kinds in controls.items():
        for kind, draws in kinds.items():
            if name not in lines or not draws:
                raise UsageError(
                    f"{kind} controls are given for {name!r}: {len(draws)} draws",
                    hint=f"give at least one draw for one of {', '.join(lines)}",
                )
            for number, draw in enumerate(draws):
                same_length("the controls' strengths", len(strengths), {f"{name}, {kind} {number}": draw})
