"""What a projected transcript is, as a value and as rows of a table."""

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
"""Projected; no conversation in the entry; refused by the chat template; longer than the model reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Where a turn lies along a probe; NaN for a turn without a token.

    Attributes:
        projection: Mean over the turn's tokens of their projections on the probe, raw.
        position: In units of the map, 0 the mean role and 1 the default Assistant; NaN but for the axis.
        percentile: Among single responses in a role (`PersonaMap.percentile`); NaN but for the axis.
        tokens: Projection of each token, raw; None where they were not asked for.
    """

    projection: float
    position: float = math.nan
    percentile: float = math.nan
    tokens: Float32[np.ndarray, "tokens"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ProjectedTurn:
    """A turn of a transcript.

    Attributes:
        turn: Its number in the conversation, from 0, a system message counted.
        role: Who speaks.
        text: What is said.
        token_count: Tokens of the text.
        readings: Name of each probe -> where the turn lies; "axis" is the first.
        token_ids: The tokens; None where they were not asked for.
    """

    turn: int
    role: str
    text: str
    token_count: int
    readings: Mapping[str, Reading]
    token_ids: tuple[int, ...] | None = None

    @property
    def axis(self) -> Reading:
        """Where it lies along the axis, at the run's layer."""
        return self.readings[AXIS]


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """An entry of a source, projected or with the reason why not.

    Attributes:
        number: Its number in the source, from 0.
        id: As in `Transcript`; what `where` says for an unreadable one.
        where: File and entry.
        status: Whether it was projected.
        reason: Why not; "" where it was.
        repairs: What was done to make turns of the entry, or to keep within the tokens; "" for nothing.
        metadata: What else the entry says.
        turns: In order; none where it was not projected.
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
    """A run folder of projected transcripts, opened for reading; iterate over it for the entries in order.

    Attributes:
        path: The folder.
        layer: Where "axis" is read.
        probes: Names of the probes, "axis" first.
        summary: Counts, and the mean position of the replies (`summary.json`); empty while the run
            is not finished.
        manifest: What the run is: source, model, map, probes.
    """

    path: Path
    layer: int
    probes: tuple[str, ...]
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]

    def __iter__(self) -> Iterator[Projected]:
        """Yield every entry, unit by unit, without holding the others."""
        folder = RunFolder.read(self.path)
        for index in sorted(folder.units):
            rows = folder.rows(index).to_pylist()
            for _, of in groupby(rows, key=lambda row: row["number"]):
                yield _from_rows(list(of), self.probes)


def columns(name: str) -> tuple[str, ...]:
    """Return the columns of a probe: those of "axis" are called what they are."""
    if name == AXIS:
        return "projection", "position", "percentile"
    return (name, f"{name} position", f"{name} percentile") if in_units(name) else (name,)


def tokens_column(name: str) -> str:
    """Return the column of a probe's projections of single tokens."""
    return f"{name} tokens"


def schema(probes: Sequence[str], *, tokens: bool) -> pa.Schema:
    """Return the columns of a run's rows: one a turn, and one for an entry that was not projected.

    Args:
        probes: Their names.
        tokens: Whether projections of single tokens are kept.
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
    """Return what every row of an entry says; all of it for one that was not projected."""
    return {name: getattr(entry, name) for name in _SHARED}


def turn_row(turn: ProjectedTurn) -> dict[str, Any]:
    """Return a turn's values by column, without single tokens; None for what there is not."""
    values: dict[str, Any] = {"turn": turn.turn, "role": turn.role, "tokens": turn.token_count}
    for name, reading in turn.readings.items():
        found = (reading.projection, reading.position, reading.percentile)
        # One that has no units has one column alone.
        for column, value in zip(columns(name), found, strict=False):
            values[column] = None if math.isnan(value) else value
    return {**values, "text": turn.text}


def token_values(turn: ProjectedTurn) -> dict[str, Any]:
    """Return a turn's projections of single tokens by column."""
    held = {name: reading.tokens for name, reading in turn.readings.items()}
    values: dict[str, Any] = {
        tokens_column(name): None if found is None else found.tolist() for name, found in held.items()
    }
    return {**values, "token_ids": None if turn.token_ids is None else list(turn.token_ids)}


def to_rows(entry: Projected, *, tokens: bool) -> list[dict[str, Any]]:
    """Return an entry as rows of `schema`."""
    # Escaped to ASCII: metadata may hold half of a surrogate pair, which Parquet does not take.
    metadata = json.dumps(entry.metadata, default=str) if entry.metadata else None
    base = {**entry_row(entry), "metadata": metadata}
    if not entry.turns:
        return [base]
    return [base | turn_row(turn) | (token_values(turn) if tokens else {}) for turn in entry.turns]


class UnitMeta(Record):
    """What unit.json says of a unit of entries."""

    problems: int


class _Identity(Record):
    layer: int
    probes: list[tuple[str, int, str]]


class _Manifest(Record):
    identity: _Identity


def read_projections(path: Path | str) -> Projections:
    """Open a folder that `run_projection` wrote, finished or not.

    Raises:
        StoreError: If there is no such run in the folder, or it is damaged.
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
