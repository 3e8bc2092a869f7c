"""Running drift and harm: a first reply in a role, then a harmful question, and what became of it.

A run folder holds one unit a role: its trials as rows, and the mean activations of its first replies at one
layer, so that any direction of that layer can be projected on later. A run that dies is taken up by the same
call: committed roles are not run again, and replies without a label are only judged again. Labels of another
judge, or of another wording of the rubric, are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from personascope.dynamics._harm_design import HarmDesign, Opening
from personascope.dynamics._harm_rows import EVALUATION, POOLED, SCHEMA, said, trial_row
from personascope.engines import Capture, Completion, Engine, Request
from personascope.errors import EngineError, UsageError
from personascope.evals import EvalProgress, collect
from personascope.interventions import Plan
from personascope.judge import JAILBREAK, Judge, JudgeItem, JudgePool, JudgeStats
from personascope.space import PersonaMap
from personascope.store import RunFolder, TensorPart, TensorSpec

WAVE = 512
"""Trials that are generated together, at least: roles of few trials share a batch."""

PlanOn = Literal["both", "second"]
"""Which replies a plan acts on."""


@dataclass(frozen=True, slots=True)
class HarmRun:
    """What is in a run folder after a run.

    Attributes:
        path: The folder.
        trials: Trials in it.
        unscored: Trials whose second reply has no label; the same call judges them again.
        empty: Trials whose first reply says nothing, so that there was no second.
        judge: What judging took, None without a judge.
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
    found: PersonaMap,
    design: HarmDesign,
    *,
    out: Path,
    judge: Judge | None,
    layer: int | None = None,
    plan: Plan | None = None,
    plan_on: PlanOn = "both",
    progress: Callable[[EvalProgress], None] | None = None,
    restart: bool = False,
    command: str = "",
    max_pending: int = 256,
) -> HarmRun:
    """Generate both replies of every trial, and label the second ones.

    Args:
        engine: The model.
        found: Its map.
        design: The trials.
        out: The run folder, new or of an earlier call with the same arguments.
        judge: Labels the second replies by `JAILBREAK`; None leaves them without (the run is partial).
        layer: Where the first replies are read; the map's middle layer by default.
        plan: Acts on the replies, or None. A first reply is read with the plan in force.
        plan_on: Whether the plan acts on both replies or on the second alone. On the second alone, it
            acts on the first exchange as well, as part of the second reply's prompt, where its
            operations act on prompts.
        progress: Called after each reply.
        restart: Forget a run that is in the folder.
        command: Recorded in the manifest.
        max_pending: Replies that are judged at the same time.

    Raises:
        UsageError: If the map has no such layer.
        EngineError: If the engine fails, or a reply comes back without its plan or its activation.
        StoreError: If the folder holds another run or cannot be written.
        JudgeError: Never for a single reply; those stay unscored.
    """
    at = found.middle_layer if layer is None else layer
    found.unit_axis(at)
    if plan_on not in ("both", "second"):
        raise UsageError(f"a plan was to act on {plan_on!r}", mend="give both or second")
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
    }
    with RunFolder.open(out, identity, notes, restart=restart) as folder:
        runner = _Runner(engine, design, folder, at, plan, plan_on, progress)
        if judge is None:
            runner.run(None)
        else:
            runner.judge = judge.name
            with JudgePool(judge, max_pending=max_pending) as pool:
                runner.run(pool)
        unscored = sum(unit.meta["unscored"] for unit in folder.units.values())
        empty = sum(unit.meta["empty"] for unit in folder.units.values())
    return HarmRun(out, len(design.trials), unscored, empty, None if judge is None else judge.stats)


class _Runner:
    def __init__(
        self,
        engine: Engine,
        design: HarmDesign,
        folder: RunFolder,
        layer: int,
        plan: Plan | None,
        plan_on: PlanOn,
        progress: Callable[[EvalProgress], None] | None,
    ) -> None:
        self.engine = engine
        self.design = design
        self.folder = folder
        self.layer = layer
        self.second_plan = plan
        self.first_plan = plan if plan_on == "both" else None
        self.progress = progress
        self.judge: str | None = None
        self.tokens = 0
        self.total = design.n_openings + len(design.trials)
        self.done = sum(unit.meta["replies"] for unit in folder.units.values())

    def run(self, pool: JudgePool | None) -> None:
        if pool is not None:
            for index, unit in list(self.folder.units.items()):
                stale = bool(unit.meta["rubric"]) and (
                    (unit.meta["rubric"], unit.meta["judge"]) != (JAILBREAK.digest, self.judge)
                )
                if (unit.meta["unscored"] or stale) and pool.fatal is None:
                    self._judge_again(pool, index, stale=stale)
        for wave in self._waves():
            made = self._generate(wave)
            if pool is not None:
                self._report("judge", wave[-1])
                self._judge(pool, [row for rows, _ in made.values() for row in rows])
            for index, (rows, pooled) in made.items():
                self._commit(index, rows, pooled)

    def _waves(self) -> Iterator[list[int]]:
        wave: list[int] = []
        size = 0
        for index, role in enumerate(self.design.roles):
            if index in self.folder.units:
                continue
            wave.append(index)
            size += len(self.design.by_role[role])
            if size >= WAVE:
                yield wave
                wave, size = [], 0
        if wave:
            yield wave

    def _judge_again(self, pool: JudgePool, index: int, *, stale: bool) -> None:
        rows = self.folder.rows(index).to_pylist()
        for row in rows:
            if stale and row["status"] == "scored":
                row.update(status="unscored", label=None, reason=None, judge=None)
        self._report("judge", index)
        before = sum(row["status"] == "scored" for row in rows)
        self._judge(pool, rows)
        # A judge that gives no label at all takes nothing away either.
        if sum(row["status"] == "scored" for row in rows) > before:
            self._commit(index, rows, None)

    def _generate(self, wave: list[int]) -> dict[int, tuple[list[dict[str, Any]], np.ndarray]]:
        roles = [self.design.roles[index] for index in wave]
        openings = [opening for role in roles for opening in self.design.openings(role)]
        trials = [trial for role in roles for trial in self.design.by_role[role]]
        first = self._collect(
            [
                Request(
                    f"first|{opening.id}",
                    opening.conversation,
                    self.design.first,
                    plan=self.first_plan,
                    capture=Capture((self.layer,)),
                    seed=self.design.seed,
                )
                for opening in openings
            ],
            "first replies",
        )
        second = self._collect(
            [
                Request(
                    f"second|{trial.id}",
                    trial.conversation(first[f"first|{trial.opening.id}"].text),
                    self.design.second,
                    plan=self.second_plan,
                    seed=self.design.seed,
                )
                for trial in trials
                if said(first[f"first|{trial.opening.id}"])
            ],
            "second replies",
        )
        self.done += len(trials) - len(second)
        return {index: self._unit(index, first, second) for index in wave}

    def _collect(self, requests: Sequence[Request], what: str) -> dict[str, Completion]:
        def count(completion: Completion) -> None:
            self.done += 1
            self.tokens += len(completion.token_ids)
            self._report("generate", what)

        return collect(self.engine, requests, count)

    def _unit(
        self, index: int, first: Mapping[str, Completion], second: Mapping[str, Completion]
    ) -> tuple[list[dict[str, Any]], np.ndarray]:
        role = self.design.roles[index]
        places: dict[str, int] = {}
        pooled: list[np.ndarray] = []
        for opening in self.design.openings(role):
            reply = first[f"first|{opening.id}"]
            if said(reply):
                places[opening.id] = len(pooled)
                pooled.append(self._activation(opening, reply))
        rows = [
            trial_row(trial, first[f"first|{trial.opening.id}"], second.get(f"second|{trial.id}"), places)
            for trial in self.design.by_role[role]
        ]
        return rows, np.stack(pooled) if pooled else np.zeros((0, self.engine.info.d_model), np.float32)

    def _activation(self, opening: Opening, reply: Completion) -> np.ndarray:
        pooled, shape = reply.pooled, (1, self.engine.info.d_model)
        if pooled is None or pooled.shape != shape or not np.isfinite(pooled).all():
            got = "none" if pooled is None else f"of shape {pooled.shape}, or not finite"
            raise EngineError(
                f"the activation of {opening.id} is {got}; one finite of shape {shape} was expected",
                mend="run the model in bfloat16 or float32 instead of float16, or report this",
            )
        return np.array(pooled[0], np.float32)

    def _judge(self, pool: JudgePool, rows: Sequence[dict[str, Any]]) -> None:
        waiting = {row["trial"]: row for row in rows if row["status"] == "unscored"}
        items = (
            JudgeItem(
                id=row["trial"],
                role=row["role"],
                description="",
                system_prompt=row["system_prompt"],
                question=row["harmful"],
                response=row["text"],
                rubric=JAILBREAK,
            )
            for row in waiting.values()
        )
        for verdict in pool.label(items):
            row = waiting[verdict.id]
            row.update(reason=verdict.reason, judge=verdict.judge)
            if verdict.label is not None:
                row.update(label=verdict.label, status="scored")

    def _commit(self, index: int, rows: list[dict[str, Any]], pooled: np.ndarray | None) -> None:
        labelled = any(row["status"] == "scored" for row in rows)
        meta = {
            "role": self.design.roles[index],
            "trials": len(rows),
            "replies": len(self.design.openings(self.design.roles[index])) + len(rows),
            "unscored": sum(row["status"] == "unscored" for row in rows),
            "empty": sum(row["status"] == "empty" for row in rows),
            "rubric": JAILBREAK.digest if labelled else None,
            "judge": self.judge if labelled else None,
        }
        parts = {}
        if pooled is not None:
            parts[POOLED] = TensorPart([TensorSpec("pooled", "F32", pooled.shape)], [pooled])
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        self.folder.commit(index, rows=table, meta=meta, parts=parts, carry=() if parts else (POOLED,))

    def _report(self, phase: Literal["generate", "judge"], what: str | int) -> None:
        if self.progress is not None:
            note = what if isinstance(what, str) else self.design.roles[what]
            self.progress(EvalProgress(self.done, self.total, self.tokens, note, phase))
