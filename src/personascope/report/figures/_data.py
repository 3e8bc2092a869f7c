"""What the figures of the evaluations are drawn from: plain numbers, already computed and checked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from personascope.errors import UsageError

Draws = Sequence[Sequence[float]]
"""K random directions, each with one value for every strength."""


class Estimated(Protocol):
    """Anything with an estimate and limits, such as ``personascope.evals.Interval``."""

    @property
    def estimate(self) -> float:
        """The estimate."""
        ...

    @property
    def low(self) -> float:
        """Its lower limit."""
        ...

    @property
    def high(self) -> float:
        """Its upper limit."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """One value with its limits (NaN limits are not drawn)."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Estimated) -> Estimate:
        """Take the numbers of an interval."""
        return cls(found.estimate, found.low, found.high)


@dataclass(frozen=True, slots=True)
class Series:
    """Estimates along a grid with their limits.

    Raises:
        UsageError: The three differ in length.
    """

    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        """Refuse limits that do not belong to the values."""
        same_length("the values of a series", len(self.values), {"low": self.low, "high": self.high})

    @classmethod
    def of(cls, found: Iterable[Estimated]) -> Series:
        """Take the numbers of intervals, in order."""
        rows = [(one.estimate, one.low, one.high) for one in found]
        return cls([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


@dataclass(frozen=True, slots=True)
class SusceptibilityData:
    """Answers to "who are you?" under role prompts, by steering strength (section 3.2 of the paper).

    Attributes:
        strengths: Fractions of the mean norm, rising; positive is toward the Assistant.
        shares: Label -> share of the answers at each strength; drawn bottom to top in this order.
        lines: Label -> share with limits at each strength, for the labels that are followed.
        random: The same labels -> draws of random directions of the same norm, at ``random_strengths``.
        random_strengths: Their strengths; None for ``strengths``.
        incoherent: Incoherent share at each strength, or None.
        n: Answers at each strength of the axis.
        n_roles: Roles that they are of.
        title: What was measured, with the model and the layer.

    Raises:
        UsageError: Lengths differ, or strengths do not rise.
    """

    strengths: Sequence[float]
    shares: Mapping[str, Sequence[float]]
    lines: Mapping[str, Series]
    n: int
    n_roles: int
    title: str
    random: Mapping[str, Draws] = field(default_factory=dict)
    random_strengths: Sequence[float] | None = None
    incoherent: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse curves that do not belong to the strengths."""
        rising(self.strengths)
        count = len(self.strengths)
        same_length("the strengths", count, self.shares)
        same_length("the strengths", count, {name: line.values for name, line in self.lines.items()})
        if self.incoherent is not None:
            same_length("the strengths", count, {"incoherent": self.incoherent})
        check_draws(self.random, self.random_strengths or self.strengths, self.lines)


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One plan of a sweep.

    Attributes:
        name: What tells it from the others, for example "layers 16:24, 25th percentile".
        benefit: Reduction of what shall fall (more is better).
        change: Change of capability against no plan (less than 0 is a loss).
    """

    name: str
    benefit: Estimate
    change: Estimate


@dataclass(frozen=True, slots=True)
class ParetoData:
    """A sweep of plans: what each gains and what it costs (section 5 of METHOD, figure of the paper's sweep).

    Attributes:
        points: All plans of the sweep.
        front: Indices of those that no other one beats.
        recommended: Index of the one that is recommended, or None.
        controls: Plans with random directions, drawn hollow.
        benefit_label: Name and unit of the vertical axis.
        change_label: Name and unit of the horizontal axis.
        n: What a point rests on, in words: "400 answers, 164 tasks".
        title: What was swept.

    Raises:
        UsageError: An index points to no plan, or there is no plan.
    """

    points: Sequence[ParetoPoint]
    front: Sequence[int]
    recommended: int | None
    benefit_label: str
    change_label: str
    n: str
    title: str
    controls: Sequence[ParetoPoint] = ()

    def __post_init__(self) -> None:
        """Refuse indices of no point."""
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
    """One measure under the conditions that every table has.

    Attributes:
        name: What was measured.
        none: Under no plan.
        plan: Under the axis' plan.
        draws: Under each random direction.
        n: Items under each condition.
        share: Whether it is a share, drawn from 0% to 100%.
        unit: Unit where it is none.
        better: "lower" or "higher" where one of them is, else "".
    """

    name: str
    none: Estimate
    plan: Estimate
    draws: Sequence[Estimate]
    n: int
    share: bool = True
    unit: str = ""
    better: str = ""


@dataclass(frozen=True, slots=True)
class ConditionsData:
    """Evaluations under no plan, a plan and random directions.

    Attributes:
        rows: One for each measure.
        plan: Name of the plan.
        title: Model and what was done.

    Raises:
        UsageError: There is no row.
    """

    rows: Sequence[ConditionRow]
    plan: str
    title: str

    def __post_init__(self) -> None:
        """Refuse an empty figure."""
        if not self.rows:
            raise UsageError("a figure of conditions has no rows", hint="give at least one measure")


@dataclass(frozen=True, slots=True)
class CompletionsData:
    """What a base model says of itself, by steering strength (section 3.3 of the paper).

    Attributes:
        strengths: Fractions of the mean norm, rising; positive is toward the Assistant.
        lines: Occupation or trait -> share of the completions with limits, one panel each.
        n: Completions at each strength.
        title: What was measured, with the model and the layer.
        random: The same names -> draws of random directions, at ``random_strengths``.
        random_strengths: Their strengths; None for ``strengths``.
        noun: What ``n`` counts.

    Raises:
        UsageError: Lengths differ, strengths do not rise, or there is nothing to draw.
    """

    strengths: Sequence[float]
    lines: Mapping[str, Series]
    n: int
    title: str
    random: Mapping[str, Draws] = field(default_factory=dict)
    random_strengths: Sequence[float] | None = None
    noun: str = "completions"

    def __post_init__(self) -> None:
        """Refuse curves that do not belong to the strengths."""
        rising(self.strengths)
        if not self.lines:
            raise UsageError(
                "a figure of completions has no lines", hint="give at least one occupation or trait"
            )
        same_length("the strengths", len(self.strengths), {k: line.values for k, line in self.lines.items()})
        check_draws(self.random, self.random_strengths or self.strengths, self.lines)


def same_length(what: str, count: int, rows: Mapping[str, Sequence[object]]) -> None:
    """Refuse rows that do not have ``count`` values.

    Raises:
        UsageError: One has not.
    """
    for name, row in rows.items():
        if len(row) != count:
            raise UsageError(
                f"{name} has {len(row)} values, and {what} are {count}",
                hint="give one value for each, in order",
            )


def rising(strengths: Sequence[float]) -> None:
    """Refuse strengths that a line cannot be drawn along.

    Raises:
        UsageError: There are none, or one is not above the one before.
    """
    if not strengths or any(b <= a for a, b in pairwise(strengths)):
        raise UsageError(
            f"the strengths of a figure are {list(strengths)}", hint="give them rising, each one once"
        )


def check_draws(random: Mapping[str, Draws], strengths: Sequence[float], lines: Mapping[str, Series]) -> None:
    """Refuse random directions that do not belong to a line or to the strengths.

    Raises:
        UsageError: They do not.
    """
    rising(strengths)
    for name, draws in random.items():
        if name not in lines or not draws:
            raise UsageError(
                f"random directions are given for {name!r}: {len(draws)} draws",
                hint=f"give at least one draw for one of {', '.join(lines)}",
            )
        for number, draw in enumerate(draws):
            same_length("the random directions' strengths", len(strengths), {f"{name}, draw {number}": draw})
