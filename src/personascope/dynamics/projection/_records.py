"""Projected transcripts, as Python values and as table rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from personascope.directions import AXIS, in_units
from personascope.errors import StoreError
from personascope.store import Record, RunFolder, read_json

KIND = "projection"
SUMMARY, TABLE = "summary.json", "projections.csv"
_SHARED = ("number", "id", "where", "status", "reason", "repairs")

Status = Literal["projected", "unreadable", "refused", "too long"]
"""Outcome of an entry: projected, no readable conversation, refused by the chat template (or out of the
plan's reach), or longer than the model's context."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A turn's projection on one probe; NaN for a turn without tokens.

    Attributes:
        projection: Mean raw projection over the turn's tokens.
        position: Projection in units of the map (mean role 0, default Assistant 1); NaN for probes without
            units.
        percentile: Percentile among single responses in a role (`PersonaMap.percentile`); NaN for probes
            without units.
        tokens: Raw projection of each token; None unless requested.
    """

    projection: float
    position: float = math.nan
    percentile: float = math.nan
    tokens: Float32[np.ndarray, "tokens"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ProjectedTurn:
    """A projected turn of a transcript.

    Attributes:
        turn: Index of the message in the conversation, from 0, a system message included.
        role: Role of the speaker.
        text: Text of the message.
        token_count: Number of tokens that were read.
        readings: Name of each probe -> the turn's reading; "axis" comes first.
        token_ids: Ids of the tokens that were read; None unless requested.
    """

    turn: int
    role: str
    text: str
    token_count: int
    readings: Mapping[str, Reading]
    token_ids: tuple[int, ...] | None = None

    @property
    def axis(self) -> Reading:
        """The turn's reading on the axis, at the run's layer."""
        return self.readings[AXIS]


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """An entry of a source, either projected or with the reason why it was not.

    Attributes:
        number: Index of the entry in the source, from 0.
        id: Id as in `Transcript`; `where` for an unreadable entry.
        where: File and location of the entry.
        status: Outcome of the entry.
        reason: Why the entry was not projected; "" if it was.
        repairs: What was changed to read the entry or to fit the token limit; "" for nothing.
        metadata: Other fields of the entry.
        turns: Projected turns in order; empty if the entry was not projected.
    """

    number: int
    id: str
    where: str
    status: Status
    reason: str = ""
    repairs: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    turns: tuple[ProjectedTurn, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Projections:
    """A run folder of projected transcripts, opened for reading; iterate over it to get the entries in order.

    Attributes:
        path: Path of the run folder.
        layer: Layer at which "axis" is read.
        probes: Names of the probes, "axis" first.
        summary: Counts and the replies' mean position (`summary.json`); empty while the run is unfinished.
        manifest: The run's manifest: source, model, map, probes.
    """

    path: Path
    layer: int
    probes: tuple[str, ...]
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]

    def __iter__(self) -> Iterator[Projected]:
        """Yield every entry in order, with one unit in memory at a time."""
        folder = RunFolder.read(self.path)
        for index in sorted(folder.units):
            rows = folder.rows(index).to_pylist()
            for _, of in groupby(rows, key=lambda row: row["number"]):
                yield _from_rows(list(of), self.probes)


def columns(name: str) -> tuple[str, ...]:
    """Return the column names of a probe's readings; those of "axis" have no prefix."""
    if name == AXIS:
        return "projection", "position", "percentile"
    return (name, f"{name} position", f"{name} percentile") if in_units(name) else (name,)


def tokens_column(name: str) -> str:
    """Return the column name of a probe's per-token projections."""
    return f"{name} tokens"


def schema(probes: Sequence[str], *, tokens: bool) -> pa.Schema:
    """Return the schema of a run's rows: one row per turn, or one for an entry that was not projected.

    Args:
        probes: Names of the probes.
        tokens: Whether per-token projections are kept.
    """
    fields = [
        ("number", pa.int32()),
        ("id", pa.string()),
        ("where", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("repairs", pa.string()),
        ("metadata", pa.string()),
        ("turn", pa.int32()),
        ("role", pa.string()),
        ("tokens", pa.int32()),
    ]
    fields += [(column, pa.float64()) for name in probes for column in columns(name)]
    fields.append(("text", pa.string()))
    if tokens:
        fields += [(tokens_column(name), pa.list_(pa.float32())) for name in probes]
        fields.append(("token_ids", pa.list_(pa.int32())))
    return pa.schema(fields)


def entry_row(entry: Projected) -> dict[str, Any]:
    """Return the columns that all rows of an entry share, metadata excluded."""
    return {name: getattr(entry, name) for name in _SHARED}


def turn_row(turn: ProjectedTurn) -> dict[str, Any]:
    """Return a turn's values by column, per-token values excluded; None for missing values."""
    values: dict[str, Any] = {"turn": turn.turn, "role": turn.role, "tokens": turn.token_count}
    for name, reading in turn.readings.items():
        found = (reading.projection, reading.position, reading.percentile)
        # A probe without units has only the projection column.
        for column, value in zip(columns(name), found, strict=False):
            values[column] = None if math.isnan(value) else value
    return {**values, "text": turn.text}


def token_values(turn: ProjectedTurn) -> dict[str, Any]:
    """Return a turn's per-token projections and token ids by column."""
    held = {name: reading.tokens for name, reading in turn.readings.items()}
    values: dict[str, Any] = {
        tokens_column(name): None if found is None else found.tolist() for name, found in held.items()
    }
    return {**values, "token_ids": None if turn.token_ids is None else list(turn.token_ids)}


def to_rows(entry: Projected, *, tokens: bool) -> list[dict[str, Any]]:
    """Return an entry as rows of `schema`."""
    # Escaped to ASCII: metadata may hold a lone surrogate, which Parquet refuses.
    metadata = json.dumps(entry.metadata, default=str) if entry.metadata else None
    base = {**entry_row(entry), "metadata": metadata}
    if not entry.turns:
        return [base]
    return [base | turn_row(turn) | (token_values(turn) if tokens else {}) for turn in entry.turns]


class UnitMeta(Record):
    """Metadata in unit.json of a unit of entries."""

    problems: int


class _Identity(Record):
    layer: int
    probes: list[tuple[str, int, str]]


class _Manifest(Record):
    identity: _Identity


def read_projections(path: Path | str) -> Projections:
    """Open a folder that `run_projection` wrote, finished or not.

    Raises:
        StoreError: If the folder holds no such run, or the run is damaged.
    """
    path = Path(path)
    folder = RunFolder.read(path)
    if folder.manifest["identity"].get("kind") != KIND:
        raise StoreError(
            f"{path} holds no run of projected transcripts",
            hint="name the --out folder of personascope project",
        )
    identity = folder.described(_Manifest).identity
    summary = path / SUMMARY
    return Projections(
        path,
        identity.layer,
        tuple(name for name, _, _ in identity.probes),
        read_json(summary, hint="run the same command again") if summary.exists() else {},
        folder.manifest,
    )


def _from_rows(rows: list[dict[str, Any]], probes: Sequence[str]) -> Projected:
    first = rows[0]
    turns = tuple(_turn(row, probes) for row in rows if row["turn"] is not None)
    metadata = json.loads(first["metadata"]) if first["metadata"] else {}
    if "mended" in first:
        first = first | {"repairs": first["mended"]}  # the column's name in earlier versions
    return Projected(**{name: first[name] for name in _SHARED}, metadata=metadata, turns=turns)


def _turn(row: Mapping[str, Any], probes: Sequence[str]) -> ProjectedTurn:
    readings: dict[str, Reading] = {}
    for name in probes:
        values = [row[column] for column in columns(name)]
        tokens = row.get(tokens_column(name))
        readings[name] = Reading(
            *(math.nan if value is None else value for value in values),
            tokens=None if tokens is None else np.array(tokens, np.float32),
        )
    ids = row.get("token_ids")
    return ProjectedTurn(
        row["turn"], row["role"], row["text"], row["tokens"], readings, None if ids is None else tuple(ids)
    )
