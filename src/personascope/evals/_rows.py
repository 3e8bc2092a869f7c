"""Stored results of an evaluation: the rows of each committed condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope.directions import ControlKind, kind_label
from personascope.errors import StoreError
from personascope.evals._conditions import Kind
from personascope.store import Record, RunFolder
from personascope.text import coherence, is_incoherent


class UnitMeta(Record):
    """Metadata in unit.json of a condition."""

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
    control: ControlKind | None = None

    @property
    def control_kind(self) -> ControlKind | None:
        """Kind of a control; those of earlier versions name none and are isotropic."""
        return self.control or ("isotropic" if self.kind == "random" else None)


class _Identity(Record):
    evaluation: str


class _Notes(Record):
    conditions: list[_ConditionNote]


class _Manifest(Record):
    identity: _Identity
    notes: _Notes


@dataclass(frozen=True, slots=True, eq=False)
class ConditionRows:
    """Rows of one condition in a run folder.

    Attributes:
        evaluation: Name of the evaluation.
        name: Name of the condition.
        kind: Kind of the condition: "plain", "axis", "random" or "plan".
        strength: Steering strength, or None.
        random_index: Index of the control among those of its kind, or None.
        control_of: Names of the conditions that this one is a control of.
        control: Kind of the control's direction, or None.
        rows: One row per trial, in the trials' order. "coherence" and "incoherent" are computed from the text
            on reading. "high_perplexity" also compares its perplexity with the plain condition's median; it
            is None where no perplexity was computed.
    """

    evaluation: str
    name: str
    kind: str
    strength: float | None
    random_index: int | None
    control_of: tuple[str, ...]
    control: str | None
    rows: list[dict[str, Any]]


def control_options(controls: Iterable[tuple[str | None, int | None]]) -> str:
    """Return the options of a command that ask for controls, given as (kind, index)."""
    found = [(kind, index or 0) for kind, index in controls if kind is not None]
    if not found:
        return "--n-random 0"
    kinds = ",".join(kind_label(kind) for kind in dict.fromkeys(kind for kind, _ in found))
    return f"--controls {kinds} --n-random {1 + max(index for _, index in found)}"


def controls_there(folder: Path) -> str | None:
    """Return the options that ask for the controls in a run folder; None if it holds no evaluation."""
    try:
        notes = RunFolder.read(folder, unit=UnitMeta).described(_Manifest).notes.conditions
    except StoreError:
        return None
    return control_options((note.control_kind, note.draw) for note in notes)


def judges_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return rubric -> judge of a row's labels; rows of earlier versions have one judge for all labels."""
    kept = row.get("judges")
    if kept is not None:
        return dict(kept)
    return dict.fromkeys(dict(row["labels"] or ()), row["judge"])


def read_evaluation(folder: Path) -> list[ConditionRows]:
    """Read the committed conditions of a run folder, in order.

    Raises:
        StoreError: If the folder holds no run, or the run is damaged.
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
            notes[index].control_kind,
            of,
        )
        for index, of in rows.items()
    ]
