"""From labelled responses to tables: shares with intervals, against no plan and against random directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from personascope.errors import EvaluationError
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
    """A share that is asked of every condition.

    Attributes:
        name: Stands in tables.
        variant: The trials that count; "" for all.
        rubric: The rubric whose label is read; "" for a measure of every response, such as coherence.
        hit: Whether a row counts; its columns are those of ``SCHEMA`` in `_run`, ``text`` among them.
        needs: A column that a row must have a value in; "" for none.
    """

    name: str
    variant: str
    rubric: str
    hit: Hit
    needs: str = ""

    def rows(self, condition: ConditionRows) -> list[dict[str, Any]]:
        """Return a condition's rows that count and have their label."""
        return [
            row
            for row in condition.rows
            if (not self.variant or row["variant"] == self.variant)
            and (not self.rubric or self.rubric in row["labels"])
            and (not self.needs or row[self.needs] is not None)
        ]


def label_measure(rubric: str, label: str | frozenset[str], *, variant: str = "", name: str = "") -> Measure:
    """Return the share of a label, or of several."""
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
"""As `INCOHERENT`, and also word salad, over the responses whose perplexity was taken."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measure of one condition.

    Attributes:
        condition: Name of the condition.
        kind: Its kind.
        strength: Of steering, or None.
        measure: Name of the measure.
        share: With its interval, clustered by the trials' group.
        unscored: Responses that would count but have no label.
        against_plain: Difference from no plan on the same trials; None for "plain" itself.
        against_random: The same against the random directions; None where there are none.
    """

    condition: str
    kind: str
    strength: float | None
    measure: str
    share: Interval
    unscored: int
    against_plain: Difference | None = None
    against_random: AgainstDraws | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What a condition did to the text as such, and how much of it the plan touched.

    Attributes:
        condition: Name of the condition.
        perplexity: Median, under the model without a plan, over a sample of responses.
        repetition: Mean share of repeated words, with its interval.
        firing_share: Share of the tokens on which a cap fired; None without a plan.
        tokens: Tokens on which the plan acted; 0 without one.
    """

    condition: str
    perplexity: float | None
    repetition: Interval
    firing_share: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Table:
    """An evaluation's results.

    Attributes:
        name: The evaluation.
        results: A result for each condition and measure.
        health: One for each condition.
        notes: What a reader must know.
        caveats: Measure -> what must stand beside its figures, in a few words.
    """

    name: str
    results: tuple[Result, ...]
    health: tuple[Health, ...]
    notes: tuple[str, ...] = field(default=())
    caveats: dict[str, str] = field(default_factory=dict[str, str])

    def get(self, condition: str, measure: str) -> Result:
        """Return one result.

        Raises:
            EvaluationError: If there is none.
        """
        for result in self.results:
            if (result.condition, result.measure) == (condition, measure):
                return result
        raise EvaluationError(f"{self.name} has no {measure!r} of the condition {condition!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the table as JSON values; what is not known is null."""
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

    Pairs are made of trials that are labelled under both conditions; the groups are the clusters.

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
    against_random = None
    if controls:
        values, groups = _paired(measure, [condition, *controls, *([plain] if plain else [])])
        if groups:
            base = values[-1] if plain else None
            draws = values[1 : 1 + len(controls)]
            against_random = against_draws(values[0], draws, groups, baseline=base, seed=seed)
    return Result(
        condition.name,
        condition.kind,
        condition.strength,
        measure.name,
        share,
        len(meant) - len(rows) if measure.rubric else 0,
        against_plain,
        against_random,
    )


def _paired(measure: Measure, conditions: Sequence[ConditionRows]) -> tuple[list[np.ndarray], list[str]]:
    """Return the hits of each condition on the trials that all of them have labelled, and their groups."""
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
