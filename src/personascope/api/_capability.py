"""Capability evaluation: lm-evaluation-harness tasks without a plan, with plans, and with controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import __version__, report
from personascope.api._comparison import checked_kinds, with_controls
from personascope.api._estimate import Prepared, WorkEstimate, estimable
from personascope.api._inputs import as_folder
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.directions import CONTROLS, N_CONTROLS, kind_label
from personascope.errors import EvaluationError
from personascope.evals import PLAIN, Conclusion, Condition, conclude, control_counts
from personascope.interventions import Plan
from personascope.stats import (
    AgainstDraws,
    Difference,
    against_draws,
    json_values,
    mean_interval,
    paired_difference,
    share_interval,
)
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.evals.harness import Capability, CapabilityTask


@dataclass(frozen=True, slots=True, eq=False)
class CapabilityRow:
    """Result of a task under a condition.

    Attributes:
        condition: Name of the condition.
        task: Result of the task.
        against_plain: Difference from no plan on the same documents; None for no plan itself, and for scores
            without per-document values.
        firing_share: Share of the plan's tokens on which caps fired, over all tasks of the condition; None
            without a cap.
        against_controls: Kind of control -> difference from its controls on the same documents.
        conclusion: Whether the difference from no plan is called an effect; None for no plan and controls.
    """

    condition: str
    task: CapabilityTask
    against_plain: Difference | None
    firing_share: float | None
    against_controls: Mapping[str, AgainstDraws]
    conclusion: Conclusion | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CapabilityEvaluation(Tabular):
    """Results of all tasks under all conditions.

    Attributes:
        conditions: Condition name -> results of the harness.
        results: File of the results.
        compared: Conditions in order, with the kinds of controls and what each is a control of.
    """

    conditions: Mapping[str, Capability]
    results: Path
    compared: tuple[Condition, ...] = ()

    @property
    def rows(self) -> tuple[CapabilityRow, ...]:
        """One row per condition and task, with the differences from no plan and from each kind of control."""
        return tuple(
            self._row(name, task, found.firing.get("firing_share"))
            for name, found in self.conditions.items()
            for task in found.tasks
        )

    def _row(self, name: str, task: CapabilityTask, firing_share: float | None) -> CapabilityRow:
        plain = self._task(PLAIN.name, task.name)
        against_plain = _against(task, plain)
        condition = next((c for c in self.compared if c.name == name), None)
        against: dict[str, AgainstDraws] = {}
        conclusion = None
        if condition is not None and condition.kind == "plan":
            own = [c for c in self.compared if name in c.control_of]
            for kind in dict.fromkeys(c.control for c in own if c.control is not None):
                draws = [self._task(c.name, task.name) for c in own if c.control == kind]
                found = _against_controls(task, draws, plain)
                against |= {} if found is None else {kind: found}
            conclusion = conclude(against_plain, against)
        return CapabilityRow(name, task, against_plain, firing_share, against, conclusion)

    def _task(self, condition: str, name: str) -> CapabilityTask | None:
        return next((task for task in self.conditions[condition].tasks if task.name == name), None)

    def headline(self) -> str:
        """Return the tasks and conditions, and what failed."""
        tasks = dict.fromkeys(row.task.name for row in self.rows)
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        return f"{', '.join(tasks)} under {', '.join(self.conditions)}{failed}"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each condition and task: score, change from no plan, share of capped tokens."""
        return [
            {
                "condition": row.condition,
                "task": row.task.name,
                "metric": row.task.headline.name,
                "value": row.task.headline.value,
                "documents": row.task.documents,
                "less_plain": None if row.against_plain is None else row.against_plain.estimate,
                "less_plain_low": None if row.against_plain is None else row.against_plain.low,
                "less_plain_high": None if row.against_plain is None else row.against_plain.high,
                "p": None if row.against_plain is None else row.against_plain.p_value,
                "fired": row.firing_share,
            }
            for row in self.rows
        ]

    def plot(self, plan: str = "") -> report.Plot:
        """Return the figure of every task's score under no plan, a plan and its controls.

        Args:
            plan: Name of the plan; the first one if not given.

        Raises:
            EvaluationError: If there is no such plan.
        """
        plans = [condition.name for condition in self.compared if condition.kind == "plan"]
        if not plans or plan not in (*plans, ""):
            what = f"no plan {plan!r}" if plan else "no plan to compare"
            raise EvaluationError(
                f"the evaluation has {what}",
                hint=f"name one of {', '.join(plans)}" if plans else "give plans",
            )
        chosen = plan or plans[0]
        scores = {(row.condition, row.task.name): _estimate(row.task) for row in self.rows}
        controls: dict[str, list[str]] = {}
        for condition in self.compared:
            if condition.control is not None and chosen in condition.control_of:
                controls.setdefault(condition.control, []).append(condition.name)
        rows = [
            report.ConditionRow(
                task.name,
                scores[PLAIN.name, task.name],
                scores[chosen, task.name],
                {
                    kind_label(kind): [
                        scores[name, task.name] for name in names if (name, task.name) in scores
                    ]
                    for kind, names in controls.items()
                },
                task.documents,
                share=0 <= task.headline.value <= 1,
                unit=task.headline.name,
            )
            for task in self.conditions[PLAIN.name].tasks
            if (chosen, task.name) in scores
        ]
        data = report.ConditionsData(rows, chosen, "Capability")
        about = {"evaluation": str(self.results), "personascope": __version__}
        return report.Plot("Capability", lambda path: report.conditions_figure(path, data), about)

    def notes(self) -> tuple[str, ...]:
        """Return why tasks failed."""
        return tuple(f"{task} failed: {why}" for task, why in self.failed.items())

    @property
    def failed(self) -> Mapping[str, str]:
        """Task name -> why it failed."""
        return {task: why for found in self.conditions.values() for task, why in found.failed.items()}


@estimable
def capability(
    mapped: MappedModel,
    plans: Mapping[str, Plan] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    n_random: int = N_CONTROLS,
    controls: Sequence[str] = CONTROLS,
    limit: int | None = None,
    out: Path | str | None = None,
) -> Prepared[CapabilityEvaluation]:
    """Run tasks of lm-evaluation-harness without a plan, with plans, and with their controls.

    Args:
        mapped: Mapped model.
        plans: Name -> plan (`load_plans`).
        tasks: Names of tasks; the paper's four if not given.
        n_random: Number of controls of each kind per plan.
        controls: Kinds of controls: "isotropic", "shuffled", "role-span".
        limit: Maximum number of documents per task.
        out: Folder of the results; the run layout's if not given.

    Raises:
        UsageError: If a kind of control is unknown, or the map has too few role vectors.
        EvaluationError: If the harness is not installed, or no task could be run.
    """
    from personascope.evals import harness

    kinds = checked_kinds(mapped, controls, n_random)
    chosen = (PLAIN, *with_controls(mapped, plans or {}, n_random, kinds))
    todo = harness.DEFAULT_TASKS if tasks is None else tasks
    counts = f"{control_counts(chosen)}, of {len(todo)} tasks each"
    folder = as_folder(out, mapped.layout.evaluation("capability"))

    def estimate() -> WorkEstimate:
        steps, failed = harness.estimate_capability(mapped.engine, len(chosen), todo, limit=limit)
        left_out = [f"{task} {why}" for task, why in failed.items()]
        return WorkEstimate("capability", steps, (folder / RESULTS,), (counts, *left_out))

    def run() -> CapabilityEvaluation:
        mapped.tell(counts)
        found = {c.name: harness.capability(mapped.engine, c.plan, todo, limit=limit) for c in chosen}
        folder.mkdir(parents=True, exist_ok=True)
        evaluation = CapabilityEvaluation(found, folder / RESULTS, chosen)
        write_json(folder / RESULTS, _record(evaluation))
        return evaluation

    return Prepared(estimate, run)


def _record(evaluation: CapabilityEvaluation) -> dict[str, Any]:
    """Return the results of every condition, with what is concluded of each plan and task."""
    record = {name: one.record() for name, one in evaluation.conditions.items()}
    for row in evaluation.rows:
        if row.conclusion is not None:
            record[row.condition]["tasks"][row.task.name] |= {
                "against_controls": {kind: asdict(one) for kind, one in row.against_controls.items()},
                "conclusion": asdict(row.conclusion),
            }
    return json_values(record)


def _scores(tasks: Sequence[CapabilityTask]) -> list[list[float]]:
    """Return the scores of each on the documents that all have."""
    per_document = [task.headline.per_document for task in tasks]
    common = sorted(set(per_document[0]).intersection(*per_document[1:]))
    return [[scores[key] for key in common] for scores in per_document]


def _estimate(task: CapabilityTask) -> report.Estimate:
    """Return a task's score with its interval over documents, which it has where each has a score."""
    values = list(task.headline.per_document.values())
    if not values:
        return report.Estimate(task.headline.value, math.nan, math.nan)
    share = all(value in (0, 1) for value in values)
    found = share_interval([value == 1 for value in values]) if share else mean_interval(values)
    return report.Estimate.of(found)


def _against(task: CapabilityTask, plain: CapabilityTask | None) -> Difference | None:
    if plain is None or plain is task:
        return None
    own, base = _scores([task, plain])
    return paired_difference(own, base) if own else None


def _against_controls(
    task: CapabilityTask, draws: Sequence[CapabilityTask | None], plain: CapabilityTask | None
) -> AgainstDraws | None:
    """Compare a task with the controls of one kind; None if one failed or has no document scores."""
    ran = [draw for draw in draws if draw is not None]
    if plain is None or len(ran) < len(draws):
        return None
    own, base, *others = _scores([task, plain, *ran])
    return against_draws(own, others, baseline=base) if own else None
