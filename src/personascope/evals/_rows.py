"""What a run of an evaluation leaves: the rows of each condition that is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.errors import StoreError
from personascope.evals._conditions import Kind
from personascope.store import Record, RunFolder
from personascope.text import coherence, is_incoherent


class UnitMeta(Record):
    """What unit.json says of a condition."""

    condition: str
    unscored: int
    rubrics: dict[str, str]
    judge: str | None = None


class _ConditionNote(Record):
    name: str
    kind: Kind
    strength: float | None
    draw: int | None
    of: list[str]


class _Identity(Record):
    evaluation: str


class _Notes(Record):
    conditions: list[_ConditionNote]


class _Manifest(Record):
    identity: _Identity
    notes: _Notes


@dataclass(frozen=True, slots=True, eq=False)
class ConditionRows:
    """What a run folder holds of one condition.

    Attributes:
        evaluation: The evaluation's name.
        name: The condition's name.
        kind: "plain", "axis", "random" or "plan".
        strength: Of steering, or None.
        random_index: Number of the random direction, or None.
        control_of: Names of the conditions that it is a control of.
        rows: One for each trial, in the trials' order; "coherence" and "incoherent" are of the
            text, and measured when it is read. "high_perplexity" also weighs its perplexity against that
            of the plain condition (median), and is None where none was taken.
    """

    evaluation: str
    name: str
    kind: str
    strength: float | None
    random_index: int | None
    control_of: tuple[str, ...]
    rows: list[dict[str, Any]]


def judges_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the judge of each label of a row, by rubric; a row of an earlier version has one for all."""
    kept = row.get("judges")
    if kept is not None:
        return dict(kept)
    return dict.fromkeys(dict(row["labels"] or ()), row["judge"])


def read_evaluation(folder: Path) -> list[ConditionRows]:
    """Return the conditions that are committed in a run folder, in order.

    Raises:
        StoreError: If there is no run in the folder, or it is damaged.
    """
    run = RunFolder.read(folder, unit=UnitMeta)
    manifest = run.described(_Manifest)
    notes = manifest.notes.conditions
    if run.units and max(run.units) >= len(notes):
        raise StoreError(
            f"{folder} holds a unit {max(run.units)}, and its manifest {len(notes)} conditions",
            hint="run again with --restart",
        )
    rows = {index: run.rows(index).to_pylist() for index in sorted(run.units)}
    plain = [row for index in rows if notes[index].kind == "plain" for row in rows[index]]
    known = [row["perplexity"] for row in plain if row["perplexity"] is not None]
    usual = float(np.median(known)) if known else None
    for row in (row for of in rows.values() for row in of):
        found = coherence(row["text"], prompt=row["question"])
        row["labels"] = dict(row["labels"] or ())
        row["judges"] = judges_of(row)
        row["coherence"] = found
        row["incoherent"] = is_incoherent(found)
        row["high_perplexity"] = None
        if row["perplexity"] is not None and usual is not None:
            row["high_perplexity"] = is_incoherent(
                found, perplexity=row["perplexity"], usual_perplexity=usual
            )
    return [
        ConditionRows(
            manifest.identity.evaluation,
            notes[index].name,
            notes[index].kind,
            notes[index].strength,
            notes[index].draw,
            tuple(notes[index].of),
            of,
        )
        for index, of in rows.items()
    ]
