"""Where the commands print: results on stdout, progress and problems on stderr."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from rich.markup import escape

from personascope.errors import PersonascopeError
from personascope.runs import SafeConsole

# Rich takes a pipe for 80 columns and cuts the words of a wide table.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160

PARTLY = 3
"""Exit code of a command that did not do all: the same command goes on, or something was left out by name."""

out = SafeConsole(highlight=False, width=_WIDTH)
err = SafeConsole(stderr=True, highlight=False)

_ARGUMENTS: ContextVar[Sequence[str] | None] = ContextVar("arguments", default=None)


@contextmanager
def recorded_command(arguments: Sequence[str]) -> Generator[None]:
    """Let `this_command` say these arguments."""
    token = _ARGUMENTS.set(arguments)
    try:
        yield
    finally:
        _ARGUMENTS.reset(token)


def this_command() -> str:
    """Return the command line, as it is recorded in run folders."""
    return shlex.join(["personascope", *(_ARGUMENTS.get() or ())])


def say(text: str) -> None:
    """Say on standard error what is being done, before it takes its time, and what is left out."""
    err.print(text, style="dim", markup=False, soft_wrap=True)


def print_error(error: PersonascopeError) -> None:
    """Print what went wrong and what helps."""
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
    if error.hint:
        err.print(f"  -> {escape(error.hint)}", soft_wrap=True, highlight=False)
