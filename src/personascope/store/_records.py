"""JSON records with a checksum and a schema.

A record is a JSON object. `write_record` adds a checksum of the other fields. `read_record` compares the
checksum if there is one (records of earlier versions have none), and returns the record as a validated model
with typed fields.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from personascope.errors import StoreError
from personascope.store._files import read_json, write_json

CHECKSUM = "checksum"
"""Field of a record that holds the SHA-256 of the other fields."""


class Record(BaseModel):
    """Base class of record schemas: types are not coerced, and unknown fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


RecordT = TypeVar("RecordT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """The first validation error of a value.

    Attributes:
        field: Path of the field, such as ``counts.poet[2]``.
        kind: Pydantic's name of the error type.
        value: Representation of the value, shortened to one line.
        reason: What the value should be.
        more: Number of further errors.
    """

    field: str
    kind: str
    value: str
    reason: str
    more: int


def short(value: object) -> str:
    """Return a value's representation, shortened to one line."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 60
    return shown.repr(value)


def problem_of(error: ValidationError, *, unions: bool = False) -> Problem:
    """Return the first error of a failed validation.

    Args:
        error: Error that pydantic raised.
        unions: Whether the model has unions, whose branch names pydantic adds to a field's path.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    parts: list[str] = []
    for step in first["loc"]:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif not unions or (step.isidentifier() and step not in {"int", "str"}):
            parts.append(f".{step}" if parts else step)
    reason = str(first["msg"]).removeprefix("Value error, ")
    return Problem("".join(parts), first["type"], short(first["input"]), reason, len(problems) - 1)


def checksum_of(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a record without its checksum, independent of the order of keys."""
    rest = {key: value for key, value in record.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its checksum added.

    The checksum is computed after a JSON round trip, because that is what is read back.
    """
    plain = json.loads(json.dumps(dict(record)))
    return plain | {CHECKSUM: checksum_of(plain)}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum, atomically and durably.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_json(path, sealed(record))


def read_record(path: Path, model: type[RecordT], *, hint: str, format: int | None = None) -> RecordT:
    """Read and validate a record.

    Args:
        path: File to read.
        model: Schema of the record.
        hint: Hint of the error if it is damaged.
        format: Required value of the field "format"; None skips the check.

    Raises:
        StoreError: If the file is missing, is no JSON object, is of another format, has a field that is
            missing or of another type, or was changed since it was written.
    """
    return as_record(read_json(path, hint=hint), model, path=path, hint=hint, format=format)


def as_record(
    value: Mapping[str, Any], model: type[RecordT], *, path: Path, hint: str, format: int | None = None
) -> RecordT:
    """Validate a JSON object from a file as a record; arguments and errors are those of `read_record`."""
    if format is not None and value.get("format") != format:
        raise StoreError(
            f"{path} has the format {short(value.get('format'))}, this version reads {format}", hint=hint
        )
    try:
        # Validate as JSON, where strict mode accepts a list for a tuple.
        record = model.model_validate_json(json.dumps(dict(value)))
    except ValidationError as error:
        found = problem_of(error)
        what = "is missing" if found.kind == "missing" else f"is {found.value}: {found.reason}"
        more = f" ({found.more} more fields are wrong)" if found.more else ""
        raise StoreError(f"{path}: the field {found.field!r} {what}{more}", hint=hint) from None
    if CHECKSUM in value and value[CHECKSUM] != checksum_of(value):
        raise StoreError(
            f"{path} was changed since it was written: its content does not have the checksum in it",
            hint=f"{hint.rstrip('.')}; if you changed it by hand, remove its field {CHECKSUM!r}",
        )
    for key in [] if CHECKSUM in value else [key for key, one in value.items() if _is_sha256(one)]:
        # Without the field, a record is early or was changed by hand; with its name damaged it is neither.
        if value[key] == checksum_of({name: one for name, one in value.items() if name != key}):
            raise StoreError(f"{path} has its checksum in the field {short(key)}", hint=hint)
    return record
