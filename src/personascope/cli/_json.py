"""Results as JSON: with ``--json`` a command prints one object instead of its tables and lines."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")


@dataclass
class Collected:
    """What a command printed.

    Attributes:
        wanted: Whether the command was asked for JSON.
        values: Values that the command handed over, at full precision.
        tables: Its tables, as shown: title, columns, rows.
        lines: Its other lines.
    """

    wanted: bool = False
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    tables: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    lines: list[str] = field(default_factory=list[str])


_COLLECTED: ContextVar[Collected | None] = ContextVar("collected", default=None)


@contextmanager
def collecting() -> Generator[Collected]:
    """Collect what is printed within the block, if a command is asked for JSON there."""
    found = Collected()
    token = _COLLECTED.set(found)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


def ask_for_json() -> None:
    """Let what follows be collected instead of printed."""
    found = _COLLECTED.get()
    if found is not None:
        found.wanted = True


def collector() -> Collected | None:
    """Return where output goes, or None if it is to be printed."""
    found = _COLLECTED.get()
    return found if found is not None and found.wanted else None


def hand_over(**values: Any) -> None:
    """Hand over results as plain values, which a command prints with ``--json``."""
    found = collector()
    if found is not None:
        found.values.update(values)


def as_table(table: Table) -> dict[str, Any]:
    """Return a table as its title, its columns and its rows; numbers are numbers, an empty cell is null."""
    columns = [_plain(column.header) for column in table.columns]
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    return {
        "title": _plain(table.title),
        "columns": columns,
        "rows": [[_value(cell) for cell in row] for row in rows],
    }


def as_line(values: Iterable[object], *, markup: bool) -> str:
    """Return printed values as one line without styles."""
    return " ".join(_plain(value) if markup else str(value) for value in values)


def write(found: Collected, command: str, code: int) -> None:
    """Print what was collected as one JSON object on standard output."""
    from personascope.stats import json_values
    from personascope.text import escape_controls_in_json

    value = {
        "command": command,
        "exit_code": code,
        **found.values,
        "tables": found.tables,
        "lines": found.lines,
    }
    text = json.dumps(json_values(value), indent=1, ensure_ascii=False)
    try:
        sys.stdout.write(escape_controls_in_json(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has gone; nothing may be written when the program ends.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def _plain(value: object) -> str:
    from rich.errors import MarkupError
    from rich.text import Text

    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    try:
        return Text.from_markup(value).plain
    except MarkupError:
        return value


def _value(cell: object) -> str | int | float | None:
    text = _plain(cell)
    if text in ("", "-"):
        return None
    if _NUMBER.fullmatch(text):
        number = text.replace(",", "")
        return float(number) if "." in number else int(number)
    return text
