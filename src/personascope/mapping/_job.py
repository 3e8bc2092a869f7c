"""The job of a mapping run: what is asked of a unit, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from personascope.engines import Completion, Engine, Request, Scored
from personascope.judge import JudgeItem, Verdict
from personascope.mapping._design import Design
from personascope.mapping._role_information import baseline, mark_played, score_unit
from personascope.mapping._sums import Merger
from personascope.mapping._unit import Unit, commit_unit, new_unit, pending_unit, totals
from personascope.runs import Job
from personascope.store import RunFolder

PENDING_ROLLOUTS = 2000
PENDING_BYTES = 2**30
"""Limits on responses that wait on disk for a judge (number, and bytes of activations); beyond them a run
stops."""


class MapJob(Job[Unit]):
    """Generate, judge and sum the rollouts of a design.

    Args:
        engine: Engine that generates the rollouts.
        folder: Run folder.
        design: Design of the run.
        judged: Whether a judge scores the roles' rollouts.
    """

    # Generate one unit at a time: it fills a batch, and its activations take much memory.
    wave = 1
    completing = "role information"

    def __init__(self, engine: Engine, folder: RunFolder, design: Design, *, judged: bool) -> None:
        """Start with nothing merged."""
        self.folder, self.design, self.judged = folder, design, judged
        self.shape = (engine.info.n_layers, engine.info.d_model)
        self.merged: set[str] = set()
        self.total = len(design)
        self.pending_cap = min(PENDING_ROLLOUTS, PENDING_BYTES // (self.shape[0] * self.shape[1] * 4))
        if not design.profile.role_information:
            self.completing = ""

    @cached_property
    def threshold(self) -> float:
        """Role information above which a response has played; needs the default's committed units."""
        return baseline(self.folder, self.design)

    def done(self, folder: RunFolder) -> int:
        """Return the number of committed responses."""
        return sum(unit.meta["rollouts"] for unit in folder.units.values())

    def unscored(self, folder: RunFolder) -> int:
        """Return the number of committed responses without a score."""
        return sum(totals(folder, "pending").values())

    def name(self, unit: Unit) -> str:
        """Return the role of the unit's first response."""
        return next(iter(unit.rows.values()))["role"]

    def requests(self, unit: Unit) -> Sequence[Request]:
        """Return the requests of the unit's rollouts that have no response yet."""
        return [
            self.design.request(rollout) for rollout in unit.rollouts if not unit.rows[rollout.id]["status"]
        ]

    def take(self, unit: Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        """Store a response, and return what to judge of it."""
        assert isinstance(result, Completion)
        to_judge = unit.take_completion(result, self.shape, judged=self.judged)
        return (self._item(unit, result.id),) if to_judge else ()

    def complete(self, engine: Engine, units: Sequence[Unit]) -> None:
        """Compute role information."""
        if self.design.profile.role_information:
            for unit in units:
                score_unit(engine, self.design, unit)

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[Unit, Sequence[JudgeItem]]]:
        """Yield the committed units with responses that wait for a score."""
        for index in [index for index, unit in sorted(folder.units.items()) if unit.meta["pending"]]:
            unit = pending_unit(folder, index)
            yield unit, [self._item(unit, id) for id in unit.unscored]

    def verdict(self, unit: Unit, verdict: Verdict) -> None:
        """Store a score."""
        unit.take_verdict(verdict)

    def commit(self, folder: RunFolder, unit: Unit) -> None:
        """Commit a unit, with its responses marked as played or not."""
        if unit.retry and set(unit.unscored) == set(unit.pooled):
            # If the judge returned no score, leave the unit unchanged.
            return
        if self.design.profile.role_information and unit.index >= self.design.n_default_units:
            mark_played(unit, self.threshold)
        kept = self.design.kept_of(unit.index, tuple(unit.rows))
        commit_unit(folder, unit, self.shape, kept=kept, merged=self.merged)
        self.after_commit(unit.index)

    def after_commit(self, index: int) -> None:
        """Do what a committed unit allows."""
        del index

    def why_stop(self, folder: RunFolder, fatal: str) -> str:
        """Return why to stop: the judge cannot go on, or too many responses wait for it."""
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


class FixedJob(MapJob):
    """The job of a fixed design, whose roles' sums are merged once all their units are committed."""

    def __init__(self, engine: Engine, folder: RunFolder, design: Design, *, judged: bool) -> None:
        """Finish the merges of an interrupted process."""
        super().__init__(engine, folder, design, judged=judged)
        self.merger = Merger(folder, design)
        self.merged = self.merger.merged

    def todo(self, folder: RunFolder) -> Iterator[Unit]:
        """Yield the uncommitted units in order."""
        return (
            new_unit(self.design, index, self.design.unit(index))
            for index in range(self.design.n_units)
            if index not in folder.units
        )

    def after_commit(self, index: int) -> None:
        """Merge the roles that this unit completes."""
        self.merger.after_commit(index)
