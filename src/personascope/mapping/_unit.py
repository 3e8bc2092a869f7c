"""A unit of work: its responses and verdicts in memory, and its commit to the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from personascope.engines import Completion
from personascope.errors import EngineError, StoreError
from personascope.judge import Verdict
from personascope.mapping._design import DEFAULT, Design, Rollout
from personascope.mapping._sums import Slot, pack_slots, slot_of, unpack_slots
from personascope.store import Record, RunFolder, TensorPart, TensorSpec

Status = Literal["scored", "default", "unscored", "empty", "thinking", "unanswered", "unjudged"]
"""Status of a rollout. An "unscored" one waits for a judge, an "empty" one has no tokens, a "thinking" one
ended before its answer, and an "unanswered" one has no token of the pooled part."""

LEFT_OUT = ("empty", "thinking", "unanswered")
"""Statuses of rollouts that are in no sum."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("role", pa.string()),
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
        ("log_probability", pa.float32()),
        ("role_information", pa.float32()),
        ("played", pa.bool_()),
    ]
)
"""Columns of rollouts.parquet."""

REASONING = pa.field("reasoning", pa.string())
"""Additional column of units in which a response has reasoning."""


class UnitMeta(Record):
    """Metadata in unit.json of a unit; counts are of rollouts."""

    rollouts: int
    statuses: dict[str, int]
    scores: dict[str, int]
    pending: dict[str, int]
    norm_sums: list[float]
    norm_count: int


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Data of a response that role information needs.

    Attributes:
        token_ids: Token ids of the response.
        logprobs: Log-probabilities of the tokens under the response's own prompt, [tokens].
        counted: Whether each token belongs to the pooled part, [tokens] bool.
    """

    token_ids: tuple[int, ...]
    logprobs: np.ndarray
    counted: np.ndarray


@dataclass
class Unit:
    """A unit in memory, until it is committed.

    Attributes:
        index: Index of the unit.
        rows: Rollout id -> row of rollouts.parquet, in rollout order.
        pooled: Rollout id -> pooled activations [L, d] that are not yet in a sum.
        waiting: Ids of rollouts with a pending verdict.
        retry: Whether the unit is already committed and only its unscored rollouts are judged again.
        generated: Rollout id -> response whose role information is not computed yet.
        tokens: Part of a response whose tokens are pooled.
        rollouts: Rollouts of the unit in order; empty if it is only judged again.
    """

    index: int
    rows: dict[str, dict[str, Any]]
    pooled: dict[str, np.ndarray] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    retry: bool = False
    generated: dict[str, Generated] = field(default_factory=dict)
    tokens: str = "answer"
    rollouts: tuple[Rollout, ...] = ()

    @property
    def unscored(self) -> list[str]:
        """Ids of rollouts with a missing score, in rollout order."""
        return [id for id, row in self.rows.items() if row["status"] == "unscored"]

    def take_completion(self, completion: Completion, shape: tuple[int, int], *, judged: bool) -> bool:
        """Store the completion of a rollout; return whether it must be judged.

        Raises:
            EngineError: If the unit does not wait for this completion, a plan was applied to it, or its
                activations are missing, of another shape, or not finite.
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
        if completion.logprobs is not None:
            self.generated[completion.id] = Generated(
                completion.token_ids, completion.logprobs, _counted(completion, self.tokens)
            )
        to_judge = judged and row["role"] != DEFAULT
        row["status"] = "unscored" if to_judge else "default" if row["role"] == DEFAULT else "unjudged"
        if to_judge:
            self.waiting.add(completion.id)
        return to_judge

    def take_verdict(self, verdict: Verdict) -> None:
        """Store the judge's verdict on a rollout."""
        self.waiting.remove(verdict.id)
        scored = verdict.score is not None
        self.rows[verdict.id].update(
            score=verdict.score,
            reason=verdict.reason,
            judge=verdict.judge,
            status="scored" if scored else "unscored",
        )


def read_completion(
    completion: Completion, shape: tuple[int, int]
) -> tuple[dict[str, Any], Float32[np.ndarray, "L d"] | None]:
    """Return the row values of a completion, and its pooled activations.

    Without tokens to pool the row's ``status`` says why, and there are no activations.

    Args:
        completion: Completion of a request without a plan, with all layers captured.
        shape: Number of layers and width.

    Raises:
        EngineError: If a plan was applied to it, or its activations are missing, of another shape, or not
            finite.
    """
    if completion.plan_digest is not None:
        raise EngineError(f"the engine intervened in {completion.id}, which asked for no plan")
    row: dict[str, Any] = {
        "text": completion.text,
        "token_count": completion.token_count,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
    }
    if completion.reasoning:
        row["reasoning"] = completion.reasoning
    left_out = not completion.left_thinking or (completion.token_ids and not completion.token_count)
    if not completion.token_ids or left_out:
        row["status"] = "unanswered" if completion.left_thinking else "thinking"
        row["status"] = row["status"] if completion.token_ids else "empty"
        row["token_count"] = 0
        return row, None
    pooled = completion.pooled
    if pooled is None or pooled.shape != shape:
        got = "none" if pooled is None else str(list(pooled.shape))
        raise EngineError(f"the activations of {completion.id} are {got} instead of {list(shape)}")
    if not np.isfinite(pooled).all():
        raise EngineError(
            f"the activations of {completion.id} are not finite",
            hint="run the model in bfloat16 or float32 instead of float16",
        )
    # Copy: a view into an engine's batch would keep the whole batch alive.
    return row, np.array(pooled, dtype=np.float32)


def new_unit(design: Design, index: int, rollouts: Sequence[Rollout]) -> Unit:
    """Create a unit without completions."""
    rows = {
        rollout.id: {
            **dict.fromkeys(SCHEMA.names),
            "id": rollout.id,
            "role": rollout.role,
            "prompt_index": rollout.prompt_index,
            "question_index": rollout.question_index,
            "sample": rollout.sample,
            "fold": rollout.fold,
            "seed": design.seed,
            "system_prompt": design.system_prompt(rollout),
            "question": design.corpus.questions[rollout.question_index].text,
        }
        for rollout in rollouts
    }
    return Unit(index, rows, tokens=design.profile.tokens, rollouts=tuple(rollouts))


def _counted(completion: Completion, tokens: str) -> np.ndarray:
    """Return whether each token of a response belongs to the given part, [tokens] bool."""
    whole = not completion.spans or tokens == "response"
    counted = np.full(len(completion.token_ids), whole)
    for span in completion.spans:
        counted[span.start : span.end] |= span.part == tokens
    return counted


def pending_unit(folder: RunFolder, index: int) -> Unit:
    """Load a committed unit, with its unscored rollouts waiting for a verdict.

    Raises:
        StoreError: If the unit's files are inconsistent.
    """
    rows = {row["id"]: row for row in folder.rows(index).to_pylist()}
    unit = Unit(index, rows, retry=True)
    part = folder.part(index, "pending")
    if part is None or set(part.specs) != set(unit.unscored):
        raise StoreError(
            f"the pending activations of unit {index} in {folder.path} do not fit its rows",
            hint="use --restart",
        )
    unit.pooled = {id: part.read(id) for id in unit.unscored}
    unit.waiting = set(unit.unscored)
    return unit


def commit_unit(
    folder: RunFolder, unit: Unit, shape: tuple[int, int], *, kept: frozenset[str], merged: set[str]
) -> None:
    """Commit a unit that has all its verdicts.

    Sums are added in rollout order, so they are bitwise reproducible, whatever the order in which completions
    and verdicts arrived.

    Args:
        folder: Run folder.
        unit: Unit to commit.
        shape: Number of layers and width.
        kept: Ids of the unit's rollouts whose activations are kept.
        merged: Roles whose sums are already merged out of the units.

    Raises:
        StoreError: If the folder cannot be written.
    """
    before = folder.part(unit.index, "sums") if unit.retry else None
    norms, counted = _norms(folder, unit, shape[0])
    unscored = unit.unscored
    statuses = Counter(row["status"] for row in unit.rows.values())
    meta = {
        "rollouts": len(unit.rows),
        "statuses": dict(sorted(statuses.items())),
        "scores": dict(
            sorted(
                Counter(str(row["score"]) for row in unit.rows.values() if row["score"] is not None).items()
            )
        ),
        "judges": dict(
            sorted(Counter(row["judge"] for row in unit.rows.values() if row["status"] == "scored").items())
        ),
        "tokens": sum(row["token_count"] or 0 for row in unit.rows.values()),
        "played": dict(Counter(row["role"] for row in unit.rows.values() if row["played"])),
        "pending": dict(Counter(unit.rows[id]["role"] for id in unscored)),
        "norm_sums": norms.tolist(),
        "norm_count": counted,
    }
    parts: dict[str, TensorPart] = {"sums": _sums_part(unit, shape, before, merged)}
    if unscored:
        parts["pending"] = TensorPart(
            [TensorSpec(id, "F32", shape) for id in unscored], [unit.pooled[id] for id in unscored]
        )
    if kept and not unit.retry:
        ids = [id for id in unit.rows if id in kept and id in unit.pooled]
        parts["kept"] = TensorPart(
            [TensorSpec(id, "BF16", shape) for id in ids], (unit.pooled[id] for id in ids)
        )
    thought = any(row.get("reasoning") for row in unit.rows.values())
    schema = SCHEMA.append(REASONING) if thought else SCHEMA
    rows = pa.Table.from_pylist(list(unit.rows.values()), schema=schema)
    folder.commit(unit.index, rows=rows, meta=meta, parts=parts, carry=("kept",) if unit.retry else ())


def _norms(folder: RunFolder, unit: Unit, n_layers: int) -> tuple[np.ndarray, int]:
    if unit.retry:
        meta = folder.units[unit.index].meta
        return np.array(meta["norm_sums"], np.float64), int(meta["norm_count"])
    norms = np.zeros(n_layers, np.float64)
    for id in unit.rows:
        if id in unit.pooled:
            norms += np.linalg.norm(unit.pooled[id].astype(np.float64), axis=1)
    return norms, len(unit.pooled)


def _sums_part(unit: Unit, shape: tuple[int, int], before: Any, merged: set[str]) -> TensorPart:
    wanted: dict[str, dict[Slot, int]] = {}
    adding: dict[str, list[tuple[Slot, str]]] = {}
    if before is not None:
        for role, text in before.metadata.items():
            if role not in merged:
                wanted[role] = unpack_slots(text)
    for id, row in unit.rows.items():
        if id not in unit.pooled or row["status"] == "unscored":
            continue
        slot = slot_of(row["score"], row["fold"], row["played"])
        counts = wanted.setdefault(row["role"], {})
        counts[slot] = counts.get(slot, 0) + 1
        adding.setdefault(row["role"], []).append((slot, id))
    order = {
        role: {slot: place for place, slot in enumerate(sorted(counts))} for role, counts in wanted.items()
    }

    def arrays() -> Iterator[np.ndarray]:
        for role, places in order.items():
            sums = np.zeros((shape[0], len(places), shape[1]), np.float32)
            if before is not None and role in before.metadata:
                old = before.read(role)
                for place, slot in enumerate(unpack_slots(before.metadata[role])):
                    sums[:, places[slot]] = old[:, place]
            for slot, id in adding.get(role, []):
                sums[:, places[slot]] += unit.pooled[id]
            yield sums

    return TensorPart(
        [TensorSpec(role, "F32", (shape[0], len(places), shape[1])) for role, places in order.items()],
        arrays(),
        {role: pack_slots({slot: wanted[role][slot] for slot in places}) for role, places in order.items()},
    )


def totals(folder: RunFolder, key: str) -> Mapping[str, int]:
    """Add up the counters ``statuses``, ``scores``, ``judges`` or ``pending`` of all committed units."""
    total: Counter[str] = Counter()
    for unit in folder.units.values():
        # Units of earlier versions have no counter of judges.
        total.update(unit.meta.get(key, {}))
    return total
