"""Run a design: generate, judge concurrently, and commit unit by unit."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.engines import Engine
from personascope.judge import Judge, JudgeChain, JudgeStats
from personascope.mapping._adaptive import AdaptiveDesign, AdaptiveJob
from personascope.mapping._design import Design
from personascope.mapping._job import FixedJob, MapJob
from personascope.mapping._plan import identity_of
from personascope.mapping._unit import UnitMeta, totals
from personascope.runs import ProgressCallback, chat_notes, collect
from personascope.space import LearningCurve
from personascope.store import RunFolder


@dataclass(frozen=True, slots=True)
class Collected:
    """Summary of a run folder after a call.

    Attributes:
        rollouts: Number of committed rollouts.
        total: Number of rollouts in the design; of an adaptive one, the most that may be asked.
        unscored: Number of rollouts that wait for a judge; the same call judges them again.
        empty: Number of rollouts without a token, which are in no sum.
        thinking: Number of rollouts that ended while thinking, which have no answer and are in no sum.
        unanswered: Number of rollouts without any token of the pooled part (for example only a tool call),
            which are in no sum.
        curve: Looks of an adaptive run, and what stopped it; None for a fixed design.
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
    curve: LearningCurve | None = None


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
    job: MapJob
    if isinstance(design, AdaptiveDesign):
        job = AdaptiveJob(engine, folder, design, judge)
    else:
        job = FixedJob(engine, folder, design, judged=judge is not None)
    got = collect(engine, job, folder, judge, progress=progress, max_pending=max_pending)
    statuses = totals(folder, "statuses")
    rollouts, unscored = sum(statuses.values()), statuses.get("unscored", 0)
    curve = job.curve if isinstance(job, AdaptiveJob) else None
    missing = not curve.stop if curve else rollouts < len(design)
    return Collected(
        rollouts=rollouts,
        total=len(design),
        unscored=unscored,
        empty=statuses.get("empty", 0),
        scores=dict(totals(folder, "scores")),
        partial=missing or unscored > 0,
        problem=got.problem or (f"{unscored} responses have no score" if unscored else ""),
        judge=got.judge,
        thinking=statuses.get("thinking", 0),
        unanswered=statuses.get("unanswered", 0),
        curve=curve,
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
