"""Capability evaluation: lm-evaluation-harness tasks without a plan, with plans, and with controls."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import __version__, report
from personascope.api._comparison import with_controls
from personascope.api._inputs import as_folder
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.errors import EvaluationError
from personascope.evals import PLAIN
from personascope.interventions import Plan
from personascope.stats import Difference, mean_interval, paired_difference, share_interval
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.evals.harness import Capability, CapabilityTask


_CONTROL = re.compile(r"random \d+ of ")
"""Beginning of the name of a control (`with_controls`)."""


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
    """

    condition: str
    task: CapabilityTask
    against_plain: Difference | None
    firing_share: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CapabilityEvaluation(Tabular):
    """Results of all tasks under all conditions.

    Attributes:
        conditions: Condition name -> results of the harness.
        results: File of the results.
    """

    conditions: Mapping[str, Capability]
    results: Path

    @property
    def rows(self) -> tuple[CapabilityRow, ...]:
        """One row per condition and task, with the difference from no plan."""
        plain = {task.name: task for task in self.conditions[PLAIN.name].tasks}
        return tuple(
            CapabilityRow(name, task, _against(task, plain.get(task.name)), found.firing.get("firing_share"))
            for name, found in self.conditions.items()
            for task in found.tasks
        )

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
        plans = [name for name in self.conditions if name != PLAIN.name and not _CONTROL.match(name)]
        if not plans or plan not in (*plans, ""):
            what = f"no plan {plan!r}" if plan else "no plan to compare"
            raise EvaluationError(
                f"the evaluation has {what}",
                hint=f"name one of {', '.join(plans)}" if plans else "give plans",
            )
        chosen = plan or plans[0]
        scores = {(row.condition, row.task.name): _estimate(row.task) for row in self.rows}
        controls = [name for name in self.conditions if name.endswith(f" of {chosen}")]
        rows = [
            report.ConditionRow(
                task.name,
                scores[PLAIN.name, task.name],
                scores[chosen, task.name],
                [scores[name, task.name] for name in controls if (name, task.name) in scores],
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


def capability(
    mapped: MappedModel,
    plans: Mapping[str, Plan] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    n_random: int = 1,
    limit: int | None = None,
    out: Path | str | None = None,
) -> CapabilityEvaluation:
    """Run tasks of lm-evaluation-harness without a plan, with plans, and with their controls.

    Args:
        mapped: Mapped model.
        plans: Name -> plan (`load_plans`).
        tasks: Names of tasks; the paper's four if not given.
        n_random: Number of random-direction controls per plan.
        limit: Maximum number of documents per task.
        out: Folder of the results; the run layout's if not given.

    Raises:
        EvaluationError: If the harness is not installed, or no task could be run.
    """
    from personascope.evals import harness

    chosen = [PLAIN, *with_controls(mapped, plans or {}, n_random)]
    todo = harness.DEFAULT_TASKS if tasks is None else tasks
    found = {c.name: harness.capability(mapped.engine, c.plan, todo, limit=limit) for c in chosen}
    folder = as_folder(out, mapped.layout.evaluation("capability"))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, {name: one.record() for name, one in found.items()})
    return CapabilityEvaluation(found, folder / RESULTS)


def _estimate(task: CapabilityTask) -> report.Estimate:
    """Return a task's score with its interval over documents, which it has where each has a score."""
    values = list(task.headline.per_document.values())
    if not values:
        return report.Estimate(task.headline.value, math.nan, math.nan)
    share = all(value in (0, 1) for value in values)
    found = share_interval([value == 1 for value in values]) if share else mean_interval(values)
    return report.Estimate.of(found)


def _against(task: CapabilityTask, plain: CapabilityTask | None) -> Difference | None:
    if plain is None or plain is task or not task.headline.per_document:
        return None
    common = sorted(task.headline.per_document.keys() & plain.headline.per_document.keys())
    return paired_difference(
        [task.headline.per_document[key] for key in common],
        [plain.headline.per_document[key] for key in common],
    )
