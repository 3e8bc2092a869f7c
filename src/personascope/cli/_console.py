"""Where the commands print: results on stdout, progress and problems on stderr."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from rich.console import Console

from personascope.mapping import MAP
from personascope.space import PersonaMap

# Rich takes a pipe for 80 columns and cuts the words of a wide table.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160

PARTLY = 3
"""Exit code of a command that did not do all: the same command goes on, or something was left out by name."""

out = Console(highlight=False, width=_WIDTH)
err = Console(stderr=True, highlight=False)


def open_map(folder: Path) -> PersonaMap:
    """Open the map in a map folder or in a run folder."""
    inside = folder / MAP
    return PersonaMap.open(inside if inside.is_dir() else folder)


def this_command() -> str:
    """Return the command line, as it is recorded in run folders."""
    return shlex.join(["personascope", *sys.argv[1:]])
