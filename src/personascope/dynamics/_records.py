"""The on-disk format of conversations, and the code that reads it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from personascope.dynamics._conversation import Dialogue, DriftRun, Ended, Turn
from personascope.errors import StoreError
from personascope.store import Record, RunFolder

TURN, OVER, FAILED = "exchange", "over", "failed"
"""Status of a row: a turn (stored as "exchange"), the end of a dialogue without a new turn, or a user
message that the auditor failed to produce."""

SCHEMA = pa.schema(
    [
        ("dialogue", pa.string()),
        ("status", pa.string()),
        ("turn", pa.int32()),
        ("ended", pa.string()),
        ("reason", pa.string()),
        ("user", pa.string()),
        ("reply", pa.string()),
        ("token_count", pa.int32()),
        ("finish_reason", pa.string()),
        ("projections", pa.list_(pa.float32())),
        ("tokens", pa.list_(pa.float32())),
        ("probes", pa.map_(pa.string(), pa.float32())),
        ("plan", pa.string()),
        ("plan_tokens", pa.int64()),
        ("capped_tokens", pa.int64()),
        ("alarm", pa.int32()),
        ("prompt_tokens", pa.int32()),
    ]
)
"""Columns of rollouts.parquet."""

REASONING = pa.field("reasoning", pa.string())
"""Additional column of units in which a reply has reasoning."""


class _Scenario(Record):
    id: str
    domain: str
    persona: str
    topic: str
    number: int
    switch: int | None


class _Identity(Record):
    layer: int
    turns: int


class _Notes(Record):
    scenes: list[_Scenario]
    zero: list[float]
    one: list[float]


class _Manifest(Record):
    identity: _Identity
    notes: _Notes


def read_drift(path: Path) -> DriftRun:
    """Read a run folder of simulated or replayed conversations; an unfinished run is read as far as it got.

    Raises:
        StoreError: If the folder holds no such run, or the run is damaged.
    """
    folder = RunFolder.read(path)
    if folder.manifest["notes"].get("kind") != "dialogues":
        raise StoreError(f"{path} holds another kind of run", hint="give the folder of simulate or replay")
    manifest = folder.described(_Manifest)
    identity, notes = manifest.identity, manifest.notes
    if not 0 <= identity.layer < len(notes.zero) == len(notes.one):
        raise StoreError(
            f"{path} says that it was read at layer {identity.layer} of {len(notes.zero)}",
            hint="run again with --restart",
        )
    rows: dict[str, list[dict[str, Any]]] = {scenario.id: [] for scenario in notes.scenes}
    for index in sorted(folder.units):
        for row in folder.rows(index).to_pylist():
            if row["dialogue"] not in rows:
                raise StoreError(
                    f"{path} has a row of {row['dialogue']!r}, which is not in its manifest",
                    hint="run again with --restart",
                )
            rows[row["dialogue"]].append(row)
    return DriftRun(
        path=path,
        layer=identity.layer,
        turns=identity.turns,
        dialogues=tuple(_dialogue(scenario, rows[scenario.id], path) for scenario in notes.scenes),
        mean_role_projection=np.array(notes.zero),
        default_projection=np.array(notes.one),
        manifest=folder.manifest,
    )


def _dialogue(scenario: _Scenario, rows: list[dict[str, Any]], path: Path) -> Dialogue:
    turns = tuple(turn_of(row) for row in rows if row["status"] == TURN)
    if [turn.number for turn in turns] != list(range(len(turns))):
        raise StoreError(f"{path}: turns of {scenario.id} are missing", hint="run again with --restart")
    ended: Ended | None = next((row["ended"] for row in rows if row["ended"] is not None), None)
    failed = bool(rows) and rows[-1]["status"] == FAILED
    return Dialogue(
        scenario.id,
        scenario.domain,
        scenario.persona,
        scenario.topic,
        scenario.number,
        turns,
        ended,
        rows[-1]["reason"] if failed else "",
        scenario.switch,
    )


def row_of(turn: Turn) -> dict[str, Any]:
    """Return a turn as a row of ``SCHEMA``."""
    row = {one.name: getattr(turn, one.name) for one in fields(Turn)}
    return row | {"turn": row.pop("number"), "probes": list(turn.probes.items())}


def turn_of(row: dict[str, Any]) -> Turn:
    """Return the turn that a row of ``SCHEMA`` holds."""
    stored: dict[str, Any] = {"reasoning": "", **row}
    values = {one.name: stored["turn" if one.name == "number" else one.name] for one in fields(Turn)}
    values["reasoning"] = values["reasoning"] or ""
    values |= {name: np.array(row[name], np.float32) for name in ("projections", "tokens")}
    values["probes"] = dict(row["probes"] or ())
    return Turn(**values)
