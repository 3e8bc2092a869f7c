"""Run a design: generate, judge concurrently, and commit unit by unit."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.engines import Completion, Engine, Request, Scored
from personascope.judge import Judge, JudgeChain, JudgeItem, JudgeStats, Verdict
from personascope.mapping._design import Design
from personascope.mapping._plan import identity_of
from personascope.mapping._role_information import baseline, mark_played, score_unit
from personascope.mapping._sums import Merger
from personascope.mapping._unit import Unit, UnitMeta, commit_unit, new_unit, pending_unit, totals
from personascope.runs import Job, ProgressCallback, chat_notes, collect
from personascope.store import RunFolder

PENDING_ROLLOUTS = 2000
PENDING_BYTES = 2**30
"""Limits on responses that wait on disk for a judge (number, and bytes of activations); beyond them a run
stops."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Summary of a run folder after a call.

    Attributes:
        rollouts: Number of committed rollouts.
        total: Number of rollouts in the design.
        unscored: Number of rollouts that wait for a judge; the same call judges them again.
        empty: Number of rollouts without a token, which are in no sum.
        thinking: Number of rollouts that ended while thinking, which have no answer and are in no sum.
        unanswered: Number of rollouts without any token of the pooled part (for example only a tool call),
            which are in no sum.
        scores: Score "0" to "3" -> number of rollouts.
        partial: Whether rollouts or scores are missing.
        problem: Why the run is partial; "" if it is complete.
        judge: Statistics of the judge's calls in this call; None without a judge.
    """

    rollouts: int
    total: int
    unscored: int
    empty: int
    scores: Mapping[str, int]
    partial: bool
    problem: str
    judge: JudgeStats | None
    thinking: int = 0
    unanswered: int = 0


def open_run(
    engine: Engine,
    design: Design,
    out: Path,
    judge: Judge | None,
    *,
    restart: bool = False,
    command: str = "",
) -> RunFolder:
    """Open the run folder of a design for writing, as a new run or to resume one.

    Raises:
        StoreError: If the folder holds another run or cannot be written.
        ChatError: If the engine cannot render the design's conversations; nothing is written in that case.
    """
    for group in range(min(2, len(design.groups))):
        engine.count_tokens(design.conversation(design.group_rollouts(group)[0]))
    notes = {"command": command, "python": platform.python_version(), **chat_notes(engine.info)}
    name = None if judge is None else judge.name
    # A run with fewer judges of the chain may continue with the whole chain: the earlier judges would give
    # the
    # same scores again.
    fewer = judge.names[:-1] if isinstance(judge, JudgeChain) else ()
    return RunFolder.open(
        out,
        identity_of(engine.info, design, name),
        notes,
        restart=restart,
        earlier=[identity_of(engine.info, design, one) for one in fewer],
        unit=UnitMeta,
    )


def collect_rollouts(
    engine: Engine,
    design: Design,
    folder: RunFolder,
    judge: Judge | None,
    *,
    progress: ProgressCallback | None = None,
    max_pending: int = 64,
) -> Collected:
    """Generate, judge and commit the missing rollouts of a run folder.

    Args:
        engine: Engine that generates the rollouts.
        design: Design of the run.
        folder: Run folder from `open_run`, with the same engine, design and judge.
        judge: Judge that scores the roles' rollouts; None counts every one as fully in its role.
        progress: Callback to call after each completion.
        max_pending: Maximum number of rollouts judged concurrently.

    Raises:
        StoreError: If the folder cannot be written.
        EngineError: If the engine fails, or its results do not match the requests.
    """
    job = _MapJob(engine, folder, design, judged=judge is not None)
    got = collect(engine, job, folder, judge, progress=progress, max_pending=max_pending)
    statuses = totals(folder, "statuses")
    rollouts, unscored = sum(statuses.values()), statuses.get("unscored", 0)
    return Collected(
        rollouts=rollouts,
        total=len(design),
        unscored=unscored,
        empty=statuses.get("empty", 0),
        scores=dict(totals(folder, "scores")),
        partial=rollouts < len(design) or unscored > 0,
        problem=got.problem or (f"{unscored} responses have no score" if unscored else ""),
        judge=got.judge,
        thinking=statuses.get("thinking", 0),
        unanswered=statuses.get("unanswered", 0),
    )


class _MapJob(Job[Unit]):
    # Generate one unit at a time: it fills a batch, and its activations take much memory.
    wave = 1
    completing = "role information"

    def __init__(self, engine: Engine, folder: RunFolder, design: Design, *, judged: bool) -> None:
        self.folder, self.design, self.judged = folder, design, judged
        self.shape = (engine.info.n_layers, engine.info.d_model)
        self.merger = Merger(folder, design)
        self.kept = design.kept()
        self.total = len(design)
        self.pending_cap = min(PENDING_ROLLOUTS, PENDING_BYTES // (self.shape[0] * self.shape[1] * 4))
        if not design.profile.role_information:
            self.completing = ""

    @cached_property
    def threshold(self) -> float:
        """Role information above which a response has played; needs the default's committed units."""
        return baseline(self.folder, self.design)

    def done(self, folder: RunFolder) -> int:
        return sum(unit.meta["rollouts"] for unit in folder.units.values())

    def unscored(self, folder: RunFolder) -> int:
        return sum(totals(folder, "pending").values())

    def todo(self, folder: RunFolder) -> Iterator[Unit]:
        return (
            new_unit(self.design, index, self.design.unit(index))
            for index in range(self.design.n_units)
            if index not in folder.units
        )

    def name(self, unit: Unit) -> str:
        return next(iter(unit.rows.values()))["role"]

    def requests(self, unit: Unit) -> Sequence[Request]:
        return [
            self.design.request(rollout)
            for rollout in self.design.unit(unit.index)
            if not unit.rows[rollout.id]["status"]
        ]

    def take(self, unit: Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        assert isinstance(result, Completion)
        to_judge = unit.take_completion(result, self.shape, judged=self.judged)
        return (self._item(unit, result.id),) if to_judge else ()

    def complete(self, engine: Engine, units: Sequence[Unit]) -> None:
        if self.design.profile.role_information:
            for unit in units:
                score_unit(engine, self.design, unit)

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[Unit, Sequence[JudgeItem]]]:
        for index in [index for index, unit in sorted(folder.units.items()) if unit.meta["pending"]]:
            unit = pending_unit(folder, index)
            yield unit, [self._item(unit, id) for id in unit.unscored]

    def verdict(self, unit: Unit, verdict: Verdict) -> None:
        unit.take_verdict(verdict)

    def commit(self, folder: RunFolder, unit: Unit) -> None:
        if unit.retry and set(unit.unscored) == set(unit.pooled):
            # If the judge returned no score, leave the unit unchanged.
            return
        if self.design.profile.role_information and unit.index >= self.design.n_default_units:
            mark_played(unit, self.threshold)
        start = self.design.unit_start(unit.index)
        kept = frozenset(
            id for place, id in enumerate(unit.rows, start) if self.kept is None or place in self.kept
        )
        commit_unit(folder, unit, self.shape, kept=kept, merged=self.merger.merged)
        self.merger.after_commit(unit.index)

    def why_stop(self, folder: RunFolder, fatal: str) -> str:
        unscored = self.unscored(folder)
        if not fatal and unscored > self.pending_cap:
            return f"{unscored} responses have no score, which is more than {self.pending_cap}"
        return fatal

    def _item(self, unit: Unit, id: str) -> JudgeItem:
        row = unit.rows[id]
        role = self.design.role(row["role"])
        return JudgeItem(
            id=id,
            role=role.name,
            description=role.description,
            system_prompt=row["system_prompt"],
            question=row["question"],
            response=row["text"],
            eval_prompt=role.eval_prompt,
        )


def unscored_rows(out: Path, limit: int = 20) -> list[dict[str, Any]]:
    """Return up to ``limit`` rollouts that wait for a judge, as rows of rollouts.parquet.

    Raises:
        StoreError: If the folder holds no run.
    """
    rows: list[dict[str, Any]] = []
    with contextlib.closing(RunFolder.read(out, unit=UnitMeta)) as folder:
        for index, unit in folder.units.items():
            if len(rows) < limit and unit.meta["pending"]:
                rows += [row for row in folder.rows(index).to_pylist() if row["status"] == "unscored"]
    return rows[:limit]
