"""An adaptive run: a prefix, in rounds, of a reproducible order of a design's rollouts.

The rounds that were begun, and what each look found, are in ``rounds.json`` in the run folder. A round is
written there before its first rollout is asked, and it follows from the committed units alone, so a killed
run goes on as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import Field

from personascope.engines import Engine, request_seed
from personascope.errors import SpaceError, StoreError
from personascope.judge import Judge
from personascope.mapping._design import Design, Rollout
from personascope.mapping._job import MapJob
from personascope.mapping._policy import met, next_round
from personascope.mapping._rounds import ORDER, Kind, Round, Rounds
from personascope.mapping._sums import RunSums, Vectors
from personascope.mapping._unit import Unit, new_unit
from personascope.mapping._until import Until, written
from personascope.space import (
    CurvePoint,
    LearningCurve,
    Precision,
    curve_point,
    layer_sums,
    measure_precision,
)
from personascope.store import Record, RunFolder, read_record, write_record

ROUNDS = "rounds.json"
MAXIMUM = "maximum"
"""What stopped a run whose whole design was asked."""
WITH_VECTOR = 0.5
"""Share of the roles that must have a vector before a look may stop a run."""


@dataclass(frozen=True)
class AdaptiveDesign(Design):
    """A design whose rollouts are asked in rounds until something is reached.

    ``len`` and iteration are of the whole design, the most that may be asked; units are of the rounds so far.

    Attributes:
        until: What the run stops at.
        vectors: Responses in role vectors at every look, as in `run_map`.
        parts: Rollouts of the units of the rounds that were begun; grows with the run.
        n_opening: Number of units that hold the default's rollouts of the opening.
    """

    until: Until = Until()  # noqa: RUF009
    vectors: Vectors = "played"
    parts: list[tuple[Rollout, ...]] = field(default_factory=list[tuple[Rollout, ...]], compare=False)
    n_opening: list[int] = field(default_factory=list[int], compare=False)

    @property
    def identity(self) -> dict[str, Any]:
        """The precisions that were asked for, which decide what is asked next."""
        return {"until": self.until.goals, "order": ORDER, "vectors": self.vectors}

    @property
    def n_default_units(self) -> int:
        """Number of units with the default's rollouts of the opening, which come first."""
        return self.n_opening[0] if self.n_opening else 0

    @property
    def n_units(self) -> int:
        """Number of units of the rounds that were begun."""
        return len(self.parts)

    def unit(self, index: int) -> list[Rollout]:
        """Return the rollouts of a unit."""
        return list(self.parts[index])

    def units_of(self, group: int) -> range:
        """Return all units: any may hold rollouts of any role."""
        del group
        return range(len(self.parts))

    def kept_of(self, index: int, ids: Sequence[str]) -> frozenset[str]:
        """Return which rollouts of a unit keep their activations: half of the number in the opening."""
        if self.profile.keep == "all":
            return frozenset(ids)
        opening = sum(len(part) for part in self.parts[: self.n_opening[1]])
        first = index < self.n_opening[1]
        many = opening if first else max(len(self) - opening, 1)
        share = min(1.0, self.profile.keep / 2 / many)
        return frozenset(id for id in ids if request_seed(self.seed, f"kept {id}") < share * 2**64)

    def add(self, default: list[Rollout], roles: list[Rollout]) -> None:
        """Add the rollouts of a round as units, the default's first."""
        opening = not self.n_opening
        chunks = [default, roles] if opening else [default + roles]
        for chunk in chunks:
            self.parts.extend(
                tuple(chunk[at : at + self.unit_size]) for at in range(0, len(chunk), self.unit_size)
            )
            if opening:
                self.n_opening.append(len(self.parts))


def as_adaptive(design: Design, until: Until, vectors: Vectors) -> AdaptiveDesign:
    """Return an adaptive design whose most is a given design."""
    values = {one.name: getattr(design, one.name) for one in fields(Design)}
    return AdaptiveDesign(**values, until=until, vectors=vectors)


class _Round(Record):
    kind: Kind
    roles: list[str] = Field(default_factory=list[str])


class RoundsRecord(Record):
    """Fields of ``rounds.json``: the rounds that were begun, the looks, and what stopped the run."""

    layer: int
    rounds: list[_Round]
    points: list[CurvePoint]
    stop: str


class AdaptiveJob(MapJob):
    """Ask a design round by round, until a look or a budget stops it."""

    def __init__(
        self, engine: Engine, folder: RunFolder, design: AdaptiveDesign, judge: Judge | None
    ) -> None:
        """Repeat the rounds that were begun in the folder; start the clock of the budget of minutes."""
        super().__init__(engine, folder, design, judged=judge is not None)
        self.adaptive, self.judge = design, judge
        self.layer = engine.info.n_layers // 2
        self.rounds = Rounds(design)
        self.begun: list[Round] = []
        self.points: list[CurvePoint] = []
        self.stop = ""
        self._clock = time.monotonic()
        path = folder.path / ROUNDS
        if path.exists():
            record = read_rounds(folder.path)
            self.points = list(record.points)
            for one in record.rounds:
                self._add(Round(one.kind, tuple(one.roles)))
        if len(self.points) > len(self.begun) or any(index >= len(design.parts) for index in folder.units):
            raise StoreError(
                f"{path} does not fit the units of the run", hint="copy it back from where the run was made"
            )

    @property
    def curve(self) -> LearningCurve:
        """The looks so far, and what stopped the run."""
        return LearningCurve(self.layer, tuple(self.points), self.adaptive.until.texts, self.stop)

    def todo(self, folder: RunFolder) -> Iterator[Unit | None]:
        """Yield the units of the rounds, and decide on each next round from the committed ones."""
        while not self.stop:
            for index in range(len(self.adaptive.parts)):
                if index not in folder.units:
                    yield new_unit(self.design, index, self.adaptive.parts[index])
            yield None
            if self.unscored(folder):
                # What is asked next depends on the missing scores; the next call asks the judge again.
                return
            look = self._look(folder) if self.begun else None
            self.stop = met(self.adaptive.until, self.points) or self._spent(folder)
            made = None if self.stop else next_round(self.adaptive.until, self.rounds, look)
            if made is None:
                self.stop = self.stop or MAXIMUM
            else:
                self._add(made)
            self._write()

    def name(self, unit: Unit) -> str:
        """Return the round, and what the last look found."""
        del unit
        last = self.points[-1] if self.points else None
        known = "" if last is None or last.split_half is None else f", split-half {last.split_half:.2f}"
        return f"round {len(self.begun)}{known}"

    def _add(self, made: Round) -> None:
        self.adaptive.add(*self.rounds.take(made))
        self.begun.append(made)

    def _look(self, folder: RunFolder) -> Precision | None:
        precision = look_at(folder, self.adaptive, self.rounds, self.shape, self.layer)
        if len(self.points) < len(self.begun):
            tokens = _tokens(folder)
            point = curve_point(len(self.begun), self.begun[-1].kind, self.done(folder), tokens, precision)
            self.points.append(point)
        return precision

    def _spent(self, folder: RunFolder) -> str:
        until = self.adaptive.until
        cost = None if self.judge is None else self.judge.stats.cost
        budgets: tuple[tuple[str, float | None, Callable[[], float]], ...] = (
            ("tokens", until.tokens, lambda: _tokens(folder)),
            ("cost", until.cost, lambda: cost or 0.0),
            ("minutes", until.minutes, lambda: (time.monotonic() - self._clock) / 60),
        )
        for name, most, used in budgets if self.begun else ():
            if most is not None and used() >= most:
                return written(name, most)
        return ""

    def _write(self) -> None:
        record = {
            "layer": self.layer,
            "rounds": [{"kind": one.kind, "roles": list(one.roles)} for one in self.begun],
            "points": self.curve.record["points"],
            "stop": self.stop,
        }
        write_record(self.folder.path / ROUNDS, record)


def look_at(
    folder: RunFolder, design: AdaptiveDesign, rounds: Rounds, shape: tuple[int, int], layer: int
) -> Precision | None:
    """Measure what the committed units know; None if too few roles have a vector yet.

    The vectors are of the responses that played, unless so few play that the whole design would not give the
    mean role enough of them; then they are of all with the score 3, as the map will be.
    """
    sums = RunSums(folder, design, *shape, vectors=design.vectors)
    counts = sums.counts("fully").sum(axis=1)
    if design.vectors == "played":
        every = counts.sum() + sums.counts("plain").sum()
        if counts.sum() / max(every, 1) * rounds.left.mean() < design.profile.min_fully:
            sums = RunSums(folder, design, *shape, vectors="rubric")
            counts = sums.counts("fully").sum(axis=1)
    if (counts >= design.profile.min_fully).sum() < WITH_VECTOR * len(counts):
        return None
    try:
        return measure_precision(
            layer_sums(sums, layer), min_fully=design.profile.min_fully, seed=design.seed
        )
    except SpaceError:
        return None


def read_rounds(folder: Path) -> RoundsRecord:
    """Read the rounds of an adaptive run from its folder.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    return read_record(
        folder / ROUNDS, RoundsRecord, hint="copy it back from where the run was made, or use --restart"
    )


def _tokens(folder: RunFolder) -> int:
    return sum(int(unit.meta["tokens"]) for unit in folder.units.values())
