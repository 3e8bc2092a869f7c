"""Where the commands print: results on stdout, progress and problems on stderr."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from personascope.mapping import MAP
from personascope.space import PersonaMap

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def open_map(folder: Path) -> PersonaMap:
    """Open the map in a map folder or in a run folder."""
    inside = folder / MAP
    return PersonaMap.open(inside if inside.is_dir() else folder)
