"""A unit of a trait run: its responses and verdicts in memory, its kept pairs, and its commit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from personascope.engines import Completion
from personascope.errors import EngineError, StoreError
from personascope.judge import Verdict, points
from personascope.mapping import REASONING, read_completion
from personascope.store import Record, RunFolder, TensorFile, TensorPart, TensorSpec
from personascope.trait_vectors._design import TraitDesign, TraitRollout

Status = Literal["scored", "refused", "unscored", "unjudged", "empty", "thinking", "unanswered"]
"""Status of a rollout. An "unscored" one waits for a judge, a "refused" one declined to answer, and an
"unjudged" one belongs to a run without a judge. The last three have no tokens to pool."""

LEFT_OUT = ("empty", "thinking", "unanswered")
"""Statuses of rollouts without activations."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("trait", pa.string()),
        ("pole", pa.string()),
        ("prompt_index", pa.int16()),
        ("question_index", pa.int32()),
        ("sample", pa.int32()),
        ("fold", pa.int8()),
        ("seed", pa.int64()),
        ("system_prompt", pa.dictionary(pa.int32(), pa.string())),
        ("question", pa.dictionary(pa.int32(), pa.string())),
        ("text", pa.string()),
        ("token_count", pa.int32()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("score", pa.int8()),
        ("reason", pa.string()),
        ("judge", pa.string()),
        ("status", pa.string()),
        ("kept", pa.bool_()),
    ]
)
"""Columns of rollouts.parquet; ``score`` is 0 to 100, and ``kept`` says whether the pair is in the vector."""


class TraitUnitMeta(Record):
    """Metadata in unit.json of a unit; ``pairs`` are of pairs, the other counts of rollouts."""

    trait: str
    rollouts: int
    statuses: dict[str, int]
    judges: dict[str, int]
    pairs: dict[str, int]
    pending: int
    points: dict[str, list[int]]


@dataclass
class TraitUnit:
    """A unit in memory, until it is committed.

    Attributes:
        index: Index of the unit.
        rollouts: Rollouts of the unit, pair after pair.
        rows: Rollout id -> row of rollouts.parquet, in rollout order.
        min_difference: Minimum difference of a pair's scores, in points.
        pooled: Rollout id -> pooled activations [L, d] that are not yet in a sum.
        retry: Whether the unit is already committed and only its unscored rollouts are judged again.
    """

    index: int
    rollouts: list[TraitRollout]
    rows: dict[str, dict[str, Any]]
    min_difference: int
    pooled: dict[str, np.ndarray] = field(default_factory=dict)
    retry: bool = False

    @property
    def name(self) -> str:
        """Name of the unit's trait."""
        return self.rollouts[0].trait

    @property
    def unscored(self) -> list[str]:
        """Ids of rollouts with a missing score, in rollout order."""
        return [id for id, row in self.rows.items() if row["status"] == "unscored"]

    def pairs(self) -> Iterator[tuple[TraitRollout, TraitRollout]]:
        """Yield the pairs: the positive and the negative rollout."""
        return zip(self.rollouts[::2], self.rollouts[1::2], strict=True)

    def take_completion(self, completion: Completion, shape: tuple[int, int], *, judged: bool) -> bool:
        """Store the completion of a rollout; return whether it must be judged.

        Raises:
            EngineError: If the unit does not wait for this completion, or it is not a usable one
                (`read_completion`).
        """
        row = self.rows.get(completion.id)
        if row is None or row["status"]:
            raise EngineError(
                f"the engine returned {completion.id} "
                + ("a second time" if row else f"which is not a rollout of unit {self.index}"),
                hint="report this; nothing of the unit was kept",
            )
        values, pooled = read_completion(completion, shape)
        row.update(values)
        if pooled is None:
            return False
        self.pooled[completion.id] = pooled
        row["status"] = "unscored" if judged else "unjudged"
        return judged

    def take_verdict(self, verdict: Verdict) -> None:
        """Store the judge's verdict on a rollout."""
        found = points(verdict.score)
        status = "unscored" if verdict.score is None else "refused" if found is None else "scored"
        self.rows[verdict.id].update(score=found, reason=verdict.reason, judge=verdict.judge, status=status)

    def fate(self, positive: TraitRollout, negative: TraitRollout) -> str:
        """Return what became of a pair: "kept", or why not.

        Without a judge every pair with two responses is kept: its vector is a difference without a score.
        """
        rows = self.rows[positive.id], self.rows[negative.id]
        statuses = {row["status"] for row in rows}
        if statuses & {*LEFT_OUT}:
            return "empty"
        for status in ("refused", "unscored"):
            if status in statuses:
                return status
        if statuses == {"unjudged"}:
            return "kept"
        return "kept" if rows[0]["score"] - rows[1]["score"] >= self.min_difference else "alike"


def new_unit(design: TraitDesign, index: int) -> TraitUnit:
    """Create a unit without completions."""
    rollouts = design.unit(index)
    rows = {
        rollout.id: {
            **dict.fromkeys(SCHEMA.names),
            "id": rollout.id,
            "trait": rollout.trait,
            "pole": rollout.pole,
            "prompt_index": rollout.prompt_index,
            "question_index": rollout.question_index,
            "sample": rollout.sample,
            "fold": rollout.fold,
            "seed": design.seed,
            "system_prompt": design.system_prompt(rollout),
            "question": design.question(rollout),
        }
        for rollout in rollouts
    }
    return TraitUnit(index, rollouts, rows, design.profile.min_difference)


def pending_unit(folder: RunFolder, design: TraitDesign, index: int) -> TraitUnit:
    """Load a committed unit, with its unscored rollouts waiting for a verdict.

    Raises:
        StoreError: If the unit's files are inconsistent.
    """
    rows = {row["id"]: row for row in folder.rows(index).to_pylist()}
    unit = TraitUnit(index, design.unit(index), rows, design.profile.min_difference, retry=True)
    part = folder.part(index, "pending")
    wanted = _undecided(unit)
    if part is None or set(part.specs) != set(wanted):
        raise StoreError(
            f"the pending activations of unit {index} in {folder.path} do not fit its rows",
            hint="use --restart",
        )
    unit.pooled = {id: part.read(id) for id in wanted}
    return unit


def _undecided(unit: TraitUnit) -> list[str]:
    """Return the ids of both rollouts of every pair that waits for a score, in rollout order."""
    pairs = [pair for pair in unit.pairs() if unit.fate(*pair) == "unscored"]
    return [rollout.id for pair in pairs for rollout in pair]


def commit_unit(
    folder: RunFolder, unit: TraitUnit, shape: tuple[int, int], *, kept: frozenset[str] | None
) -> None:
    """Commit a unit that has all its verdicts.

    The differences of the kept pairs are added in rollout order, so the sums are bitwise reproducible,
    whatever the order in which completions and verdicts arrived.

    Args:
        folder: Run folder.
        unit: Unit to commit.
        shape: Number of layers and width.
        kept: Ids of the rollouts whose activations are kept; None for all.

    Raises:
        StoreError: If the folder cannot be written.
    """
    before = folder.part(unit.index, "sums") if unit.retry else None
    fates = {positive.pair: unit.fate(positive, negative) for positive, negative in unit.pairs()}
    for positive, negative in unit.pairs():
        for rollout in (positive, negative):
            unit.rows[rollout.id]["kept"] = fates[positive.pair] == "kept"
    statuses = Counter(row["status"] for row in unit.rows.values())
    scored: dict[str, list[int]] = {"+": [0, 0], "-": [0, 0]}
    for row in unit.rows.values():
        if row["score"] is not None:
            scored[row["pole"]][0] += row["score"]
            scored[row["pole"]][1] += 1
    undecided = _undecided(unit)
    meta = {
        "trait": unit.name,
        "rollouts": len(unit.rows),
        "statuses": dict(sorted(statuses.items())),
        "judges": dict(
            sorted(Counter(row["judge"] for row in unit.rows.values() if row["judge"] is not None).items())
        ),
        "pairs": dict(sorted(Counter(fates.values()).items())),
        "pending": statuses.get("unscored", 0),
        "points": scored,
    }
    parts = {"sums": _sums_part(unit, shape, before, fates)}
    if undecided:
        parts["pending"] = TensorPart(
            [TensorSpec(id, "F32", shape) for id in undecided], [unit.pooled[id] for id in undecided]
        )
    if not unit.retry:
        ids = [id for id in unit.rows if id in unit.pooled and (kept is None or id in kept)]
        if ids:
            parts["kept"] = TensorPart(
                [TensorSpec(id, "BF16", shape) for id in ids], (unit.pooled[id] for id in ids)
            )
    thought = any(row.get("reasoning") for row in unit.rows.values())
    schema = SCHEMA.append(REASONING) if thought else SCHEMA
    rows = pa.Table.from_pylist(list(unit.rows.values()), schema=schema)
    folder.commit(unit.index, rows=rows, meta=meta, parts=parts, carry=("kept",) if unit.retry else ())


SUMS = "differences"
"""Name of the tensor [L, folds, d] in a unit's part "sums"; its folds and counts are in the header."""


def fold_counts(metadata: Mapping[str, str]) -> dict[int, int]:
    """Return the number of kept pairs of each fold in a unit's sums, in the order of the tensor."""
    return {int(fold): int(count) for fold, count in json.loads(metadata[SUMS])}


def _sums_part(
    unit: TraitUnit, shape: tuple[int, int], before: TensorFile | None, fates: Mapping[str, str]
) -> TensorPart:
    old = {} if before is None else fold_counts(before.metadata)
    # In a unit that is judged again, only pairs that had waited still have their activations.
    new = [
        (positive, negative)
        for positive, negative in unit.pairs()
        if fates[positive.pair] == "kept" and positive.id in unit.pooled and negative.id in unit.pooled
    ]
    counts = Counter(old)
    counts.update(positive.fold for positive, _ in new)
    places = {fold: place for place, fold in enumerate(sorted(counts))}
    text = json.dumps([[fold, counts[fold]] for fold in places])
    if not places:
        return TensorPart([], [], {SUMS: text})

    def arrays() -> Iterator[np.ndarray]:
        sums = np.zeros((shape[0], len(places), shape[1]), np.float32)
        if before is not None and old:
            earlier = before.read(SUMS)
            for place, fold in enumerate(old):
                sums[:, places[fold]] = earlier[:, place]
        for positive, negative in new:
            sums[:, places[positive.fold]] += unit.pooled[positive.id] - unit.pooled[negative.id]
        yield sums

    return TensorPart([TensorSpec(SUMS, "F32", (shape[0], len(places), shape[1]))], arrays(), {SUMS: text})
