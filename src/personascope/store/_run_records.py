"""Schemas of a run folder's JSON records, and the comparison of two records."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from personascope.errors import StoreError
from personascope.store._files import AGAIN, read_json
from personascope.store._records import CHECKSUM, Record, as_record

FORMAT = 1
FILES = "sha256"
"""Field of unit.json and of checksums.json: file name -> SHA-256 (hex)."""
UNIT = "unit.json"


class Manifest(Record):
    """Schema of manifest.json."""

    format: int
    identity: dict[str, Any]
    notes: dict[str, Any]
    checksums: bool = False


class Files(Record):
    """Schema of the checksums in unit.json and checksums.json."""

    sha256: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A committed unit.

    Attributes:
        index: Index of the unit in the run.
        generation: Number of times the unit was rewritten.
        path: Folder of the unit.
        meta: Metadata of the job in unit.json.
        files: Name of each other file -> SHA-256; empty for a unit of an earlier version.
    """

    index: int
    generation: int
    path: Path
    meta: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict[str, str])


def read_unit(model: type[Record], index: int, generation: int, path: Path) -> UnitRecord:
    """Read unit.json of a committed unit.

    Args:
        model: Schema of the job's metadata.
        index: Index of the unit in the run.
        generation: Number of times the unit was rewritten.
        path: Folder of the unit.

    Raises:
        StoreError: If unit.json is missing or damaged.
    """
    record = read_json(path / UNIT)
    files = as_record(record, Files, path=path / UNIT, hint=AGAIN).sha256
    as_record(record, model, path=path / UNIT, hint=AGAIN)
    meta = {key: value for key, value in record.items() if key not in (FILES, CHECKSUM)}
    return UnitRecord(index, generation, path, meta, files or {})


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Return one line for each difference between two JSON values, with both values."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted({*found, *wanted})
        return [
            text
            for key in keys
            for text in differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


@contextmanager
def reading_rows(path: Path) -> Generator[None]:
    """Convert errors while reading a Parquet file to a StoreError.

    Raises:
        StoreError: If the file cannot be read (a ValueError comes from invalid UTF-8).
    """
    try:
        yield
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="run again with --restart") from error
