"""Run drift and harm: a first reply in a role, then a harmful question, then a label of the second reply.

A run folder holds one unit per role: its trials as rows, and the mean activations of its first replies at one
layer, for projection on any direction of that layer later. The same call resumes an interrupted run:
committed roles are not generated again, and unlabelled replies are only judged again. Labels of another
judge, or of another wording of the rubric, are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from personascope.dynamics.harm._design import HarmDesign, HarmTrial, Opening
from personascope.dynamics.harm._rows import EVALUATION, POOLED, SCHEMA, UnitMeta, said, trial_row
from personascope.engines import Capture, Completion, Engine, Request, Scored
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan
from personascope.judge import JAILBREAK, Judge, JudgeItem, JudgeStats, Verdict, continues
from personascope.runs import Job, ProgressCallback, chat_notes, collect, dated, shown
from personascope.space import PersonaMap
from personascope.store import RunFolder, TensorPart, TensorSpec

WAVE = 512
"""Minimum number of trials generated together, so that roles with few trials share a batch."""

PlanOn = Literal["both", "second"]
"""Which replies a plan acts on."""


@dataclass(frozen=True, slots=True)
class HarmRun:
    """Summary of a run folder after a call.

    Attributes:
        path: Path of the run folder.
        trials: Number of trials in the design.
        unscored: Number of trials whose second reply has no label; the same call judges them again.
        empty: Number of trials whose first reply is empty, so that no second was requested.
        judge: Statistics of the judge's calls; None without a judge.
    """

    path: Path
    trials: int
    unscored: int
    empty: int
    judge: JudgeStats | None

    @property
    def partial(self) -> bool:
        """Whether labels are missing."""
        return self.unscored > 0


def run_harm(
    engine: Engine,
    persona_map: PersonaMap,
    design: HarmDesign,
    *,
    out: Path | str,
    judge: Judge | None,
    layer: int | None = None,
    plan: Plan | None = None,
    plan_on: PlanOn = "both",
    progress: ProgressCallback | bool = True,
    restart: bool = False,
    command: str = "",
    max_pending: int = 256,
) -> HarmRun:
    """Generate both replies of every trial, and label the second ones.

    Args:
        engine: Engine of the model.
        persona_map: Map of the model.
        design: Trials to run.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        judge: Judge that labels the second replies by `JAILBREAK`; None leaves them unlabelled (the run is
            partial).
        layer: Layer at which the first replies are read; the map's middle layer by default.
        plan: Plan applied to the replies, or None. First replies under the plan are read with it applied.
        plan_on: Whether the plan acts on both replies or only on the second. With "second", operations that
            act on prompts still act on the first turn as part of the second reply's prompt.
        progress: Whether to show a progress bar, or a callback to call after each reply instead.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.
        max_pending: Maximum number of replies judged concurrently.

    Raises:
        UsageError: If the map has no such layer, or ``plan_on`` is unknown.
        EngineError: If the engine fails, or a reply comes back without its plan or its activation.
        StoreError: If the folder holds another run or cannot be written.
        JudgeError: If the judge cannot be used at all. A single failed reply stays unscored.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    at = persona_map.middle_layer if layer is None else layer
    persona_map.unit_axis(at)
    if plan_on not in ("both", "second"):
        raise UsageError(f"a plan was to act on {plan_on!r}", hint="give both or second")
    identity = {
        "evaluation": EVALUATION,
        "design": design.digest,
        "layer": at,
        "plan": None if plan is None else [plan.digest, plan_on],
        "model": engine.info.identity,
        "seed": design.seed,
    }
    notes = {
        "command": command,
        "source": design.source,
        "problems": list(design.problems),
        "roles": list(design.roles),
        "plan": None if plan is None else plan.explain(),
        "plan_name": "" if plan is None else plan.name,
        **chat_notes(engine.info),
    }
    job = _HarmJob(engine.info.d_model, design, at, plan, plan_on, None if judge is None else judge.name)
    with (
        shown(progress) as tell,
        RunFolder.open(out, identity, notes, restart=restart, unit=UnitMeta) as folder,
    ):
        got = collect(engine, job, folder, judge, progress=tell, max_pending=max_pending)
        empty = sum(unit.meta["empty"] for unit in folder.units.values())
    return HarmRun(out, len(design.trials), got.unscored, empty, got.judge)


def first_request(design: HarmDesign, opening: Opening, layer: int, plan: Plan | None) -> Request:
    """Return the request for a first reply, which is read at a layer."""
    return Request(
        f"first|{opening.id}",
        opening.conversation,
        design.first,
        plan=plan,
        capture=Capture((layer,)),
        seed=design.seed,
    )


def second_request(design: HarmDesign, trial: HarmTrial, reply: str, plan: Plan | None) -> Request:
    """Return the request for a second reply, given the first."""
    return Request(
        f"second|{trial.id}", trial.conversation(reply), design.second, plan=plan, seed=design.seed
    )


@dataclass(slots=True, eq=False)
class _Unit:
    """Work unit of one role.

    Attributes:
        index: Index of the unit.
        role: Name of the role.
        first: Opening id -> first reply.
        rows: Trial id -> row, created when the second reply arrives or turns out not to be needed.
        labels_before: Number of labels already committed; None for an uncommitted unit.
    """

    index: int
    role: str
    first: dict[str, Completion] = field(default_factory=dict[str, Completion])
    rows: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    labels_before: int | None = None

    @property
    def n_labels(self) -> int:
        return sum(row["status"] == "scored" for row in self.rows.values())


class _HarmJob(Job[_Unit]):
    def __init__(
        self,
        d_model: int,
        design: HarmDesign,
        layer: int,
        plan: Plan | None,
        plan_on: PlanOn,
        judge: str | None,
    ) -> None:
        self.d_model, self.design, self.layer, self.judge = d_model, design, layer, judge
        self.wave = WAVE
        self.second_plan = plan
        self.first_plan = plan if plan_on == "both" else None
        self.total = design.n_openings + len(design.trials)
        self.trials = {trial.id: trial for trial in design.trials}

    def done(self, folder: RunFolder) -> int:
        return sum(unit.meta["replies"] for unit in folder.units.values())

    def unscored(self, folder: RunFolder) -> int:
        return sum(unit.meta["unscored"] for unit in folder.units.values())

    def todo(self, folder: RunFolder) -> Iterator[_Unit]:
        roles = enumerate(self.design.roles)
        return (_Unit(index, role) for index, role in roles if index not in folder.units)

    def name(self, unit: _Unit) -> str:
        return unit.role

    def requests(self, unit: _Unit) -> Sequence[Request]:
        if not unit.first:
            return [
                first_request(self.design, opening, self.layer, self.first_plan)
                for opening in self.design.openings(unit.role)
            ]
        return [
            second_request(self.design, trial, unit.first[trial.opening.id].text, self.second_plan)
            for trial in self.design.by_role[unit.role]
            if trial.id not in unit.rows and said(unit.first[trial.opening.id])
        ]

    def take(self, unit: _Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        assert isinstance(result, Completion)
        reply, _, id = result.id.partition("|")
        if reply == "first":
            unit.first[id] = result
            return ()
        trial = self.trials[id]
        unit.rows[id] = trial_row(trial, unit.first[trial.opening.id], result)
        return (_item(unit.rows[id]),)

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[_Unit, Sequence[JudgeItem]]]:
        for index, committed in list(folder.units.items()):
            rubric, judge = committed.meta["rubric"], committed.meta["judge"]
            stale = bool(rubric) and not (rubric == JAILBREAK.digest and continues(self.judge, judge))
            if not (committed.meta["unscored"] or stale):
                continue
            rows = folder.rows(index).to_pylist()
            for row in rows:
                if stale and row["status"] == "scored":
                    row.update(status="unscored", label=None, reason=None, judge=None)
            unit = _Unit(index, self.design.roles[index], rows={row["trial"]: row for row in rows})
            unit.labels_before = unit.n_labels
            yield unit, [_item(row) for row in rows if row["status"] == "unscored"]

    def verdict(self, unit: _Unit, verdict: Verdict) -> None:
        row = unit.rows[verdict.id]
        row.update(reason=verdict.reason, judge=verdict.judge)
        if verdict.label is not None:
            row.update(label=verdict.label, status="scored")

    def commit(self, folder: RunFolder, unit: _Unit) -> None:
        if unit.labels_before is not None and unit.n_labels <= unit.labels_before:
            # If the judge returned no new label, keep the old ones.
            return
        parts: dict[str, TensorPart] = {}
        if unit.labels_before is None:
            parts[POOLED] = self._pack_first(unit)
        rows = [unit.rows[trial.id] for trial in self.design.by_role[unit.role]]
        meta = {
            "role": unit.role,
            "trials": len(rows),
            "replies": len(self.design.openings(unit.role)) + len(rows),
            "unscored": sum(row["status"] == "unscored" for row in rows),
            "empty": sum(row["status"] == "empty" for row in rows),
            "rubric": JAILBREAK.digest if unit.n_labels else None,
            "judge": self.judge if unit.n_labels else None,
        }
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        folder.commit(unit.index, rows=table, meta=meta, parts=parts, carry=() if parts else (POOLED,))

    def _pack_first(self, unit: _Unit) -> TensorPart:
        """Pack the activations of the first replies, and set ``first_pooled`` of every row."""
        places: dict[str, int] = {}
        pooled: list[np.ndarray] = []
        for opening in self.design.openings(unit.role):
            reply = unit.first[opening.id]
            if said(reply):
                places[opening.id] = len(pooled)
                pooled.append(self._activation(opening, reply))
        for trial in self.design.by_role[unit.role]:
            row = unit.rows.setdefault(trial.id, trial_row(trial, unit.first[trial.opening.id], None))
            row["first_pooled"] = places.get(trial.opening.id)
        stacked = np.stack(pooled) if pooled else np.zeros((0, self.d_model), np.float32)
        return TensorPart([TensorSpec("pooled", "F32", stacked.shape)], [stacked])

    def _activation(self, opening: Opening, reply: Completion) -> np.ndarray:
        pooled, shape = reply.pooled, (1, self.d_model)
        if pooled is None or pooled.shape != shape or not np.isfinite(pooled).all():
            got = "none" if pooled is None else f"of shape {pooled.shape}, or not finite"
            raise EngineError(
                f"the activation of {opening.id} is {got}; one finite of shape {shape} was expected",
                hint="run the model in bfloat16 or float32 instead of float16, or report this",
            )
        return np.array(pooled[0], np.float32)


def _item(row: dict[str, Any]) -> JudgeItem:
    return JudgeItem(
        id=row["trial"],
        role=row["role"],
        description="",
        system_prompt=row["system_prompt"],
        question=row["harmful"],
        response=row["text"],
        rubric=JAILBREAK,
    )
