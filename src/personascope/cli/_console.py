"""Consoles of the commands: results go to stdout, progress and problems to stderr."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.markup import escape

from personascope.cli._json import as_line, as_table, collector
from personascope.errors import PersonascopeError
from personascope.runs import SafeConsole

# Rich assumes 80 columns for a pipe, and would cut words in wide tables.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160

PARTLY = 3
"""Exit code of a partly done command: the same command resumes it, or it has named what it left out."""


class ResultConsole(SafeConsole):
    """Console of results, which keeps them for JSON where a command is asked for it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print tables and lines, or keep them."""
        kept = collector()
        if kept is None:
            super().print(*objects, **options)
            return
        from rich.table import Table

        for one in objects:
            if isinstance(one, Table):
                kept.tables.append(as_table(one))
        lines = [one for one in objects if not isinstance(one, Table)]
        if lines:
            kept.lines.append(as_line(lines, markup=options.get("markup") is not False))


out = ResultConsole(highlight=False, width=_WIDTH)
err = SafeConsole(stderr=True, highlight=False)

_ARGUMENTS: ContextVar[Sequence[str] | None] = ContextVar("arguments", default=None)


@contextmanager
def recorded_command(arguments: Sequence[str]) -> Generator[None]:
    """Make `this_command` return these arguments within the block."""
    token = _ARGUMENTS.set(arguments)
    try:
        yield
    finally:
        _ARGUMENTS.reset(token)


def this_command() -> str:
    """Return the current command line, to record in run folders."""
    return shlex.join(["personascope", *(_ARGUMENTS.get() or ())])


def say(text: str) -> None:
    """Print a status message on stderr."""
    err.print(text, style="dim", markup=False, soft_wrap=True)


def say_next(*commands: tuple[object, ...]) -> None:
    """Print on stderr which commands come next, with their arguments; a text in brackets is for the reader.

    Args:
        commands: Arguments of each command after the program's name.
    """
    for number, command in enumerate(commands):
        line = " ".join(
            str(word) if str(word).startswith("(") else shlex.quote(str(word)) for word in command
        )
        say(f"{'next:' if number == 0 else '     '} personascope {line}")


def print_error(error: PersonascopeError) -> None:
    """Print an error's message and hint."""
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
    if error.hint:
        err.print(f"  -> {escape(error.hint)}", soft_wrap=True, highlight=False)
