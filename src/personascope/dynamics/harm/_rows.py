"""Stored results of drift and harm: one row per trial, and the mean activation of each first reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from personascope.dynamics.harm._design import HarmTrial
from personascope.engines import Completion
from personascope.errors import StoreError
from personascope.judge import continues
from personascope.store import Record, RunFolder

EVALUATION = "harm"

POOLED = "first"
"""Name of the unit part that holds the first replies' activations."""

SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("role", pa.string()),
        ("system_prompt", pa.dictionary(pa.int32(), pa.string())),
        ("question", pa.dictionary(pa.int32(), pa.string())),
        ("first", pa.string()),
        ("first_tokens", pa.int32()),
        ("first_finish", pa.string()),
        ("first_pooled", pa.int32()),
        ("first_plan", pa.string()),
        ("first_plan_tokens", pa.int32()),
        ("first_capped_tokens", pa.int32()),
        ("harmful_id", pa.string()),
        ("category", pa.string()),
        ("harmful", pa.string()),
        ("text", pa.string()),
        ("token_count", pa.int32()),
        ("finish_reason", pa.string()),
        ("plan", pa.string()),
        ("plan_tokens", pa.int32()),
        ("capped_tokens", pa.int32()),
        ("status", pa.string()),
        ("label", pa.string()),
        ("reason", pa.string()),
        ("judge", pa.string()),
    ]
)
"""Columns of rollouts.parquet. ``first_pooled`` is the row of the first reply's activation in its part.
The status is "scored", "unscored", or "empty" if the first reply is empty and no second was requested."""


@dataclass(frozen=True, slots=True, eq=False)
class HarmRows:
    """Contents of a run folder of drift and harm.

    Attributes:
        path: Path of the run folder.
        layer: Layer of the activations.
        rows: One row per trial, in the design's order.
        pooled: [trials, d] mean activation of each trial's first reply; NaN if the reply is empty.
        missing: Roles that are not in the folder yet.
        manifest: The run's manifest.
        judges: Names of the judges, or chains of judges, that labelled the roles. There is one, unless a
            change of judge is unfinished.
    """

    path: Path
    layer: int
    rows: tuple[dict[str, Any], ...]
    pooled: Float32[np.ndarray, "trials d"]
    missing: tuple[str, ...]
    manifest: Mapping[str, Any]
    judges: tuple[str, ...] = ()


def said(completion: Completion) -> bool:
    """Return whether a reply is non-empty; some chat templates refuse an empty turn."""
    return bool(completion.token_ids) and bool(completion.text.strip())


def trial_row(trial: HarmTrial, first: Completion, second: Completion | None) -> dict[str, Any]:
    """Return the row of a trial; ``first_pooled`` is filled in when the unit is packed."""
    return {
        "trial": trial.id,
        "role": trial.opening.role,
        "system_prompt": trial.opening.system_prompt,
        "question": trial.opening.question,
        "first": first.text,
        "first_tokens": len(first.token_ids),
        "first_finish": first.finish_reason,
        "first_pooled": None,
        "first_plan": first.plan_digest,
        "first_plan_tokens": None if first.cap_stats is None else first.cap_stats.tokens,
        "first_capped_tokens": None if first.cap_stats is None else first.cap_stats.capped_tokens,
        "harmful_id": trial.harmful.id,
        "category": trial.harmful.category,
        "harmful": trial.harmful.question,
        "text": "" if second is None else second.text,
        "token_count": 0 if second is None else len(second.token_ids),
        "finish_reason": None if second is None else second.finish_reason,
        "plan": None if second is None else second.plan_digest,
        "plan_tokens": None if second is None or second.cap_stats is None else second.cap_stats.tokens,
        "capped_tokens": (
            None if second is None or second.cap_stats is None else second.cap_stats.capped_tokens
        ),
        "status": "empty" if second is None else "unscored",
        "label": None,
        "reason": None,
        "judge": None,
    }


class UnitMeta(Record):
    """Metadata in unit.json of a role."""

    role: str
    replies: int
    unscored: int
    empty: int
    rubric: str | None
    judge: str | None


class _Model(Record):
    id: str


class _Identity(Record):
    layer: int
    plan: tuple[str, str] | None
    model: _Model


class _Notes(Record):
    roles: list[str]
    source: str
    plan_name: str


class _Manifest(Record):
    identity: _Identity
    notes: _Notes


def read_harm(path: Path) -> HarmRows:
    """Read the committed trials of a run folder.

    Raises:
        StoreError: If the folder holds no run of drift and harm, or the run is damaged.
    """
    folder = RunFolder.read(path)
    found = folder.manifest["identity"].get("evaluation")
    if found != EVALUATION:
        raise StoreError(
            f"{path} holds a run of {found!r}, not of drift and harm",
            hint="give the folder of personascope evaluate harm",
        )
    manifest = folder.described(_Manifest)
    folder = RunFolder.read(path, unit=UnitMeta)
    rows: list[dict[str, Any]] = []
    pooled: list[np.ndarray] = []
    for index in sorted(folder.units):
        part = folder.part(index, POOLED)
        if part is None:
            raise StoreError(f"unit {index} of {path} lacks its activations", hint="run again with --restart")
        vectors = part.read("pooled")
        empty = np.full((1, vectors.shape[1]), np.nan, np.float32)
        table = np.concatenate([vectors, empty])
        here = folder.rows(index).to_pylist()
        rows += here
        pooled += [table[-1 if row["first_pooled"] is None else row["first_pooled"]] for row in here]
    there = {unit.meta["role"] for unit in folder.units.values()}
    missing = tuple(role for role in manifest.notes.roles if role not in there)
    stacked = np.stack(pooled) if pooled else np.zeros((0, 0), np.float32)
    named = {unit.meta["judge"] for unit in folder.units.values() if unit.meta["judge"]}
    # In a chain of judges, a role that the second judge did not need keeps the name of the first alone.
    judges = tuple(
        sorted(one for one in named if not any(other != one and continues(other, one) for other in named))
    )
    return HarmRows(path, manifest.identity.layer, tuple(rows), stacked, missing, folder.manifest, judges)
