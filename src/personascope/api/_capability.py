"""Capability evaluation: lm-evaluation-harness tasks without a plan, with plans, and with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.api._comparison import checked_kinds, with_controls
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.directions import CONTROLS, N_CONTROLS
from personascope.evals import PLAIN, Conclusion, Condition, conclude, control_counts
from personascope.interventions import Plan
from personascope.stats import AgainstDraws, Difference, against_draws, json_values, paired_difference
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


@dataclass(frozen=True, slots=True, eq=False)
class CapabilityEvaluation:
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

    @property
    def failed(self) -> Mapping[str, str]:
        """Task name -> why it failed."""
        return {task: why for found in self.conditions.values() for task, why in found.failed.items()}


def capability(
    mapped: MappedModel,
    plans: Mapping[str, Plan] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    n_random: int = N_CONTROLS,
    controls: Sequence[str] = CONTROLS,
    limit: int | None = None,
    out: Path | None = None,
) -> CapabilityEvaluation:
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
    mapped.tell(f"{control_counts(chosen)}, of {len(todo)} tasks each")
    found = {c.name: harness.capability(mapped.engine, c.plan, todo, limit=limit) for c in chosen}
    folder = out or mapped.layout.evaluation("capability")
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = CapabilityEvaluation(found, folder / RESULTS, chosen)
    write_json(folder / RESULTS, _record(evaluation))
    return evaluation


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
