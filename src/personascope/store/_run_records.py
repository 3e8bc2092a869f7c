"""What the JSON records of a run folder hold, and how two of them differ."""

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
"""Field of unit.json and of checksums.json: name of a file -> its SHA-256 in hex."""
UNIT = "unit.json"


class Manifest(Record):
    """manifest.json."""

    format: int
    identity: dict[str, Any]
    notes: dict[str, Any]
    checksums: bool = False


class Files(Record):
    """The checksums in unit.json and in checksums.json."""

    sha256: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A committed unit.

    Attributes:
        index: Position of the unit in the run.
        generation: How many times it was rewritten.
        path: Its folder.
        meta: What its job recorded in unit.json.
        files: Name of each other file -> its SHA-256; empty for a unit of an earlier version.
    """

    index: int
    generation: int
    path: Path
    meta: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict[str, str])


def read_unit(model: type[Record], index: int, generation: int, path: Path) -> UnitRecord:
    """Read unit.json of a committed unit.

    Args:
        model: What its job records.
        index: Position of the unit in the run.
        generation: How many times it was rewritten.
        path: Its folder.

    Raises:
        StoreError: If it is missing or damaged.
    """
    record = read_json(path / UNIT)
    files = as_record(record, Files, path=path / UNIT, hint=AGAIN).sha256
    as_record(record, model, path=path / UNIT, hint=AGAIN)
    meta = {key: value for key, value in record.items() if key not in (FILES, CHECKSUM)}
    return UnitRecord(index, generation, path, meta, files or {})


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Name what differs between two JSON values, with both values."""
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
    """Say of whatever cannot be read that it is the file's fault.

    Raises:
        StoreError: If the file cannot be read; a ValueError is of names or texts that are no UTF-8.
    """
    try:
        yield
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="run again with --restart") from error
