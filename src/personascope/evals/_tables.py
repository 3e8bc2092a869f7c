"""Results tables: shares with intervals, compared with no plan and with every kind of control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from personascope.errors import EvaluationError
from personascope.evals._conclusion import Conclusion, conclude
from personascope.evals._rows import ConditionRows
from personascope.stats import (
    AgainstDraws,
    Difference,
    Interval,
    against_draws,
    json_values,
    mean_interval,
    paired_difference,
    share_interval,
)

Hit = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Measure:
    """A share that is computed for every condition.

    Attributes:
        name: Name for tables.
        variant: Variant of the trials in the denominator; "" for all trials.
        rubric: Rubric whose label is read; "" for a measure without a label, such as coherence.
        hit: Predicate of the rows in the numerator; the columns of a row are those of ``SCHEMA`` in `_run`.
        needs: Column that must have a value in a row; "" for none.
    """

    name: str
    variant: str
    rubric: str
    hit: Hit
    needs: str = ""

    def rows(self, condition: ConditionRows) -> list[dict[str, Any]]:
        """Return the rows in the denominator: of the variant, with the label and the needed value."""
        return [
            row
            for row in condition.rows
            if (not self.variant or row["variant"] == self.variant)
            and (not self.rubric or self.rubric in row["labels"])
            and (not self.needs or row[self.needs] is not None)
        ]


def label_measure(rubric: str, label: str | frozenset[str], *, variant: str = "", name: str = "") -> Measure:
    """Return the measure of the share of a label, or of any of several labels."""
    wanted = frozenset([label]) if isinstance(label, str) else label
    return Measure(
        name or "/".join(sorted(wanted)), variant, rubric, lambda row: row["labels"][rubric] in wanted
    )


INCOHERENT = Measure("incoherent", "", "", lambda row: bool(row["incoherent"]))
HIGH_PERPLEXITY = Measure(
    "incoherent or high perplexity",
    "",
    "",
    lambda row: bool(row["high_perplexity"]),
    needs="high_perplexity",
)
"""Share of incoherent or high-perplexity (word salad) responses, where perplexity was computed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measure of one condition.

    Attributes:
        condition: Name of the condition.
        kind: Kind of the condition: "plain", "axis", "random" or "plan".
        strength: Steering strength, or None.
        measure: Name of the measure.
        share: Share with its interval, clustered by the trials' group.
        unscored: Number of responses of the variant left out for lack of a label.
        against_plain: Difference from no plan on the same trials; None for "plain" itself.
        control: Kind of the control's direction; None if the condition is none.
        against_controls: Kind of control -> difference from the controls of that kind on the same trials.
        conclusion: Whether the difference from no plan is called an effect; None for "plain" and for
            controls.
    """

    condition: str
    kind: str
    strength: float | None
    measure: str
    share: Interval
    unscored: int
    against_plain: Difference | None = None
    control: str | None = None
    against_controls: dict[str, AgainstDraws] = field(default_factory=dict[str, AgainstDraws])
    conclusion: Conclusion | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Text quality under a condition, and how much the plan acted.

    Attributes:
        condition: Name of the condition.
        perplexity: Median perplexity of a sample of responses, under the model without a plan.
        repetition: Mean share of repeated words, with its interval.
        firing_share: Share of the plan's tokens on which a cap fired; None without a plan.
        tokens: Number of tokens on which the plan acted; 0 without a plan.
    """

    condition: str
    perplexity: float | None
    repetition: Interval
    firing_share: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Table:
    """Results of an evaluation.

    Attributes:
        name: Name of the evaluation.
        results: One result per condition and measure.
        health: Text quality of each condition.
        notes: Caveats for the reader, one line each.
        caveats: Measure -> short caveat to show next to its values.
    """

    name: str
    results: tuple[Result, ...]
    health: tuple[Health, ...]
    notes: tuple[str, ...] = field(default=())
    caveats: dict[str, str] = field(default_factory=dict[str, str])

    def get(self, condition: str, measure: str) -> Result:
        """Return the result of a condition and measure.

        Raises:
            EvaluationError: If there is no such result.
        """
        for result in self.results:
            if (result.condition, result.measure) == (condition, measure):
                return result
        raise EvaluationError(f"{self.name} has no {measure!r} of the condition {condition!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the table as JSON values; NaN becomes null."""
        return json_values(asdict(self))


def make_table(
    name: str,
    conditions: Sequence[ConditionRows],
    measures: Sequence[Measure],
    *,
    notes: Sequence[str] = (),
    caveats: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Table:
    """Compare conditions on measures.

    Differences are paired over the trials labelled under all compared conditions, and clustered by group.
    Each kind of control is compared on its own, and a difference from no plan is called an effect only if it
    beats all of them (`Conclusion`).

    Raises:
        EvaluationError: If there is no condition.
    """
    if not conditions:
        raise EvaluationError(f"the run of {name} holds no condition", hint="run it first")
    plain = next((c for c in conditions if c.kind == "plain"), None)
    results = [
        _result(condition, measure, plain, [c for c in conditions if condition.name in c.control_of], seed)
        for condition in conditions
        for measure in (*measures, INCOHERENT, HIGH_PERPLEXITY)
    ]
    health = tuple(_health(c, seed) for c in conditions)
    return Table(name, tuple(results), health, tuple(notes), dict(caveats or {}))


def _result(
    condition: ConditionRows,
    measure: Measure,
    plain: ConditionRows | None,
    controls: Sequence[ConditionRows],
    seed: int,
) -> Result:
    rows = measure.rows(condition)
    meant = [r for r in condition.rows if not measure.variant or r["variant"] == measure.variant]
    hits = [measure.hit(row) for row in rows]
    share = share_interval(hits, [row["group"] for row in rows], seed=seed)
    against_plain = None
    if plain is not None and plain is not condition:
        values, groups = _paired(measure, [condition, plain])
        if groups:
            against_plain = paired_difference(values[0], values[1], groups, seed=seed)
    against_controls: dict[str, AgainstDraws] = {}
    for kind in dict.fromkeys(c.control for c in controls if c.control is not None):
        of_kind = [c for c in controls if c.control == kind]
        values, groups = _paired(measure, [condition, *of_kind, *([plain] if plain else [])])
        if groups:
            base = values[-1] if plain else None
            draws = values[1 : 1 + len(of_kind)]
            against_controls[kind] = against_draws(values[0], draws, groups, baseline=base, seed=seed)
    acts = condition.kind in ("axis", "plan")
    return Result(
        condition.name,
        condition.kind,
        condition.strength,
        measure.name,
        share,
        len(meant) - len(rows) if measure.rubric else 0,
        against_plain,
        condition.control,
        against_controls,
        conclude(against_plain, against_controls) if acts else None,
    )


def _paired(measure: Measure, conditions: Sequence[ConditionRows]) -> tuple[list[np.ndarray], list[str]]:
    """Return each condition's hits on the trials that all conditions have, and the groups of those trials."""
    tables = [{row["trial"]: row for row in measure.rows(condition)} for condition in conditions]
    common = [trial for trial in tables[0] if all(trial in table for table in tables[1:])]
    values = [np.array([measure.hit(table[trial]) for trial in common], float) for table in tables]
    return values, [str(tables[0][trial]["group"]) for trial in common]


def _health(condition: ConditionRows, seed: int) -> Health:
    perplexities = [row["perplexity"] for row in condition.rows if row["perplexity"] is not None]
    repetition = [row["coherence"].repetition for row in condition.rows]
    acted = sum(row["plan_tokens"] or 0 for row in condition.rows)
    capped = sum(row["capped_tokens"] or 0 for row in condition.rows)
    planned = any(row["plan"] for row in condition.rows)
    return Health(
        condition.name,
        float(np.median(perplexities)) if perplexities else None,
        mean_interval(repetition, [row["group"] for row in condition.rows], seed=seed),
        capped / acted if planned and acted else None,
        acted,
    )
