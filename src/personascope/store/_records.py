"""JSON records that are read back: of the shape that was written, and with the content that was written.

A record is a JSON object. `write_record` puts a checksum of all else into it; `read_record` compares the
checksum where there is one (records of earlier versions have none) and returns the record as a model, so that
whoever reads a field knows its type.
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
"""Field of a record that holds the SHA-256 of the others."""


class Record(BaseModel):
    """Base of the models of records: types are not coerced, and fields of later versions are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


RecordT = TypeVar("RecordT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong with a value.

    Attributes:
        field: Path of the field, such as ``counts.poet[2]``.
        kind: Pydantic's name of the kind of problem.
        value: The value, cut to what fits on a line.
        reason: What it should be.
        more: How many other problems there are.
    """

    field: str
    kind: str
    value: str
    reason: str
    more: int


def short(value: object) -> str:
    """Return a value's representation, cut to what fits on a line."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 60
    return shown.repr(value)


def problem_of(error: ValidationError, *, unions: bool = False) -> Problem:
    """Return the first problem of a validation.

    Args:
        error: What pydantic raised.
        unions: Whether the model has unions, whose branches pydantic names in the path of a field.
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
    """Return the SHA-256, in hex, of a record without its checksum; the order of keys does not count."""
    rest = {key: value for key, value in record.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its checksum.

    It is taken of what JSON makes of the record, since that is what is read back.
    """
    plain = json.loads(json.dumps(dict(record)))
    return plain | {CHECKSUM: checksum_of(plain)}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum, atomically and durably.

    Raises:
        StoreError: If it cannot be written.
    """
    write_json(path, sealed(record))


def read_record(path: Path, model: type[RecordT], *, hint: str, format: int | None = None) -> RecordT:
    """Read a record.

    Args:
        path: The file.
        model: Its shape.
        hint: What helps where it is damaged.
        format: The value that its field "format" must have; None where it has no such field.

    Raises:
        StoreError: If the file is missing, is no JSON object, is of another format, has a field that is
            missing or of another type, or was changed since it was written.
    """
    return as_record(read_json(path, hint=hint), model, path=path, hint=hint, format=format)


def as_record(
    value: Mapping[str, Any], model: type[RecordT], *, path: Path, hint: str, format: int | None = None
) -> RecordT:
    """Return what was read of a file as a record; arguments and errors are those of `read_record`."""
    if format is not None and value.get("format") != format:
        raise StoreError(
            f"{path} has the format {short(value.get('format'))}, this version reads {format}", hint=hint
        )
    try:
        # As JSON, where a list stands for a tuple too.
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
    return record
