"""Locate the built-in texts of the evaluations, and read their files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from personascope.corpus._files import read_jsonl, read_yaml
from personascope.corpus._schema import validate
from personascope.errors import CorpusError

DATA = Path(__file__).parent / "data"
BUILTIN = "builtin"

Model = TypeVar("Model", bound=BaseModel)


def read_form(model: type[Model], path: Path) -> Model:
    """Read a YAML file as ``model``.

    Raises:
        CorpusError: If the file cannot be read, or violates the schema.
    """
    return validate(model, read_yaml(path), path=path)


def read_lines(model: type[Model], path: Path) -> list[Model]:
    """Read the lines of a JSON-lines file as ``model``.

    Raises:
        CorpusError: If the file cannot be read, is empty, or a line violates the schema.
    """
    found = [validate(model, value, path=path, entry=f"line {line}") for line, value in read_jsonl(path)]
    if not found:
        raise CorpusError(f"{path}: is empty", hint=f"add lines with {', '.join(model.model_fields)}")
    return found


def refuse_repeats(names: list[str], what: str, path: Path) -> None:
    """Refuse two entries of one name, whose results would be counted as one.

    Raises:
        CorpusError: If a name occurs twice.
    """
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise CorpusError(f"{path}: the {what} {twice!r} occurs twice", hint="rename or remove one of them")


def sha256(content: object) -> str:
    """Return the SHA-256 (hex) of a JSON value, the same for the same texts in the same order."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode("ascii")).hexdigest()
