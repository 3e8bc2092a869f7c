"""Run a trait design: generate both poles, judge concurrently, and commit unit by unit."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import personascope
from personascope.engines import Completion, Engine, EngineInfo, Request, Scored, sampling_record
from personascope.judge import TRAIT_SCORE, Judge, JudgeChain, JudgeItem, JudgeStats, Verdict
from personascope.mapping import PENDING_BYTES, PENDING_ROLLOUTS
from personascope.runs import Job, ProgressCallback, chat_notes, collect
from personascope.store import RunFolder
from personascope.trait_vectors._design import TraitDesign
from personascope.trait_vectors._unit import TraitUnit, TraitUnitMeta, commit_unit, new_unit, pending_unit


@dataclass(frozen=True, slots=True)
class TraitsCollected:
    """Summary of a trait run's folder after a call.

    Attributes:
        rollouts: Number of committed rollouts.
        total: Number of rollouts in the design.
        statuses: Status -> number of rollouts: scored, refused, unscored, unjudged, empty, thinking,
            unanswered.
        pairs: What became of a pair -> number of pairs: kept, alike (too small a difference), refused, empty,
            unscored.
        partial: Whether rollouts or scores are missing.
        problem: Why the run is partial; "" if it is complete.
        judge: Statistics of the judge's calls in this call; None without a judge.
    """

    rollouts: int
    total: int
    statuses: Mapping[str, int]
    pairs: Mapping[str, int]
    partial: bool
    problem: str
    judge: JudgeStats | None

    @property
    def unscored(self) -> int:
        """Number of rollouts that wait for a judge; the same call judges them again."""
        return self.statuses.get("unscored", 0)


def identity_of(info: EngineInfo, design: TraitDesign, judge: str | None) -> dict[str, Any]:
    """Return the identity that must match when a trait run is resumed; the judge is identified by name."""
    model = {field.name: getattr(info, field.name) for field in fields(info)}
    versions = {**model.pop("versions"), "personascope": personascope.__version__}
    for name in ("chat_options", "chat_date"):
        del model[name]
    return {
        "model": model | info.chat_record,
        "versions": versions,
        "traits": design.digest_of_texts,
        "profile": design.profile.record,
        "sampling": sampling_record(design.profile.sampling),
        "seed": design.seed,
        "n_folds": design.n_folds,
        "unit_size": design.unit_size,
        "design": design.digest,
        "judge": None if judge is None else {"name": judge, "rubric": TRAIT_SCORE.digest},
    }


def open_trait_run(
    engine: Engine,
    design: TraitDesign,
    out: Path,
    judge: Judge | None,
    *,
    restart: bool = False,
    command: str = "",
) -> RunFolder:
    """Open the folder of a trait run for writing, as a new run or to resume one.

    Raises:
        StoreError: If the folder holds another run or cannot be written.
        ChatError: If the engine cannot render the design's conversations; nothing is written in that case.
    """
    engine.count_tokens(design.conversation(design.trait_rollouts(0)[0]))
    notes = {"command": command, "python": platform.python_version(), **chat_notes(engine.info)}
    name = None if judge is None else judge.name
    # A run with fewer judges of the chain may continue with the whole chain, as a map may.
    fewer = judge.names[:-1] if isinstance(judge, JudgeChain) else ()
    return RunFolder.open(
        out,
        identity_of(engine.info, design, name),
        notes,
        restart=restart,
        earlier=[identity_of(engine.info, design, one) for one in fewer],
        unit=TraitUnitMeta,
    )


def collect_traits(
    engine: Engine,
    design: TraitDesign,
    folder: RunFolder,
    judge: Judge | None,
    *,
    progress: ProgressCallback | None = None,
    max_pending: int = 64,
) -> TraitsCollected:
    """Generate, judge and commit the missing rollouts of a trait run.

    Args:
        engine: Engine that generates the rollouts.
        design: Design of the run.
        folder: Run folder from `open_trait_run`, with the same engine, design and judge.
        judge: Judge that scores each response from 0 to 100; None keeps every pair, without a score.
        progress: Callback to call after each completion.
        max_pending: Maximum number of rollouts judged concurrently.

    Raises:
        StoreError: If the folder cannot be written.
        EngineError: If the engine fails, or its results do not match the requests.
    """
    job = _TraitJob(engine, folder, design, judged=judge is not None)
    got = collect(engine, job, folder, judge, progress=progress, max_pending=max_pending)
    statuses, pairs = totals(folder, "statuses"), totals(folder, "pairs")
    rollouts, unscored = sum(statuses.values()), statuses.get("unscored", 0)
    return TraitsCollected(
        rollouts=rollouts,
        total=len(design),
        statuses=statuses,
        pairs=pairs,
        partial=rollouts < len(design) or unscored > 0,
        problem=got.problem or (f"{unscored} responses have no score" if unscored else ""),
        judge=got.judge,
    )


def totals(folder: RunFolder, key: str) -> dict[str, int]:
    """Add up the counters ``statuses``, ``judges`` or ``pairs`` of all committed units."""
    total: Counter[str] = Counter()
    for unit in folder.units.values():
        total.update(unit.meta[key])
    return dict(sorted(total.items()))


class _TraitJob(Job[TraitUnit]):
    def __init__(self, engine: Engine, folder: RunFolder, design: TraitDesign, *, judged: bool) -> None:
        self.design, self.judged = design, judged
        self.shape = (engine.info.n_layers, engine.info.d_model)
        self.kept = design.kept()
        self.total = len(design)
        # Small traits share a batch; half a unit more than a unit is generated together at most.
        self.wave = max(1, design.unit_size // 2)
        self.pending_cap = min(PENDING_ROLLOUTS, PENDING_BYTES // (self.shape[0] * self.shape[1] * 4))
        del folder

    def done(self, folder: RunFolder) -> int:
        return sum(unit.meta["rollouts"] for unit in folder.units.values())

    def unscored(self, folder: RunFolder) -> int:
        return sum(unit.meta["pending"] for unit in folder.units.values())

    def todo(self, folder: RunFolder) -> Iterator[TraitUnit]:
        indices = [index for index in range(self.design.n_units) if index not in folder.units]
        return (new_unit(self.design, index) for index in indices)

    def name(self, unit: TraitUnit) -> str:
        return unit.name

    def requests(self, unit: TraitUnit) -> Sequence[Request]:
        waiting = [rollout for rollout in unit.rollouts if not unit.rows[rollout.id]["status"]]
        return [self.design.request(rollout) for rollout in waiting]

    def take(self, unit: TraitUnit, result: Completion | Scored) -> Iterable[JudgeItem]:
        assert isinstance(result, Completion)
        to_judge = unit.take_completion(result, self.shape, judged=self.judged)
        return (self._item(unit, result.id),) if to_judge else ()

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[TraitUnit, Sequence[JudgeItem]]]:
        for index in [index for index, unit in sorted(folder.units.items()) if unit.meta["pending"]]:
            unit = pending_unit(folder, self.design, index)
            yield unit, [self._item(unit, id) for id in unit.unscored]

    def verdict(self, unit: TraitUnit, verdict: Verdict) -> None:
        unit.take_verdict(verdict)

    def commit(self, folder: RunFolder, unit: TraitUnit) -> None:
        if unit.retry and len(unit.unscored) == folder.units[unit.index].meta["pending"]:
            # If the judge returned no score, leave the unit unchanged.
            return
        commit_unit(folder, unit, self.shape, kept=self.kept)

    def why_stop(self, folder: RunFolder, fatal: str) -> str:
        unscored = self.unscored(folder)
        if not fatal and unscored > self.pending_cap:
            return f"{unscored} responses have no score, which is more than {self.pending_cap}"
        return fatal

    def _item(self, unit: TraitUnit, id: str) -> JudgeItem:
        row = unit.rows[id]
        trait = self.design.trait(row["trait"])
        return JudgeItem(
            id=id,
            role=trait.name,
            description=trait.description,
            system_prompt=row["system_prompt"],
            question=row["question"],
            response=row["text"],
            eval_prompt=trait.eval_prompt,
            rubric=TRAIT_SCORE,
        )
