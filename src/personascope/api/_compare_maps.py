"""Comparison of maps, given by folder, by folder and layer, or opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from personascope import comparison, report
from personascope.api._inputs import Tell, open_map, quiet
from personascope.comparison import MapComparison
from personascope.errors import UsageError
from personascope.space import PersonaMap
from personascope.store import write_json

GivenMap = PersonaMap | Path | str | tuple[PersonaMap | Path | str, int]
"""A map: opened, a folder, FOLDER:LAYER, or either with a layer beside it."""

_FOLDER_AND_LAYER = re.compile(r"(.+):(\d+)")


def compare(
    maps: Sequence[GivenMap],
    *,
    layer: int | None = None,
    components: int = 5,
    draws: int = 2000,
    seed: int = 0,
    out: Path | str | None = None,
    tell: Tell = quiet,
) -> MapComparison:
    """Compare two maps or more, pair by pair, over the roles that both maps of a pair have a vector of.

    Args:
        maps: Opened maps, map folders or run folders; ``(map, layer)`` or ``"FOLDER:LAYER"`` for a layer of
            its own. One map at two layers is two maps.
        layer: Layer of the maps without a layer of their own; each map's middle layer if not given.
        components: Number of components that are compared, at most 10.
        draws: Number of bootstrap draws and of permutations.
        seed: Random seed.
        out: File to write: ``.html`` for a self-contained page, ``.json`` for the figures.
        tell: Callback for status messages.

    Raises:
        UsageError: If there are fewer than two maps, a pair shares fewer than 10 roles, a number is out of
            its range, a layer is not in its map, or ``out`` has another suffix.
        SpaceError: If a vector is not finite, or the shared roles do not differ in a map.
        StoreError: If a folder holds no map, a map is damaged, or the file cannot be written.
    """
    target = None if out is None else Path(out)
    if target is not None and target.suffix not in (".html", ".json"):
        raise UsageError(f"{target} is neither a page nor JSON", hint="end its name in .html or .json")
    opened = [_open(one, tell) for one in maps]
    found = comparison.compare(opened, layer=layer, components=components, draws=draws, seed=seed)
    if target is not None and target.suffix == ".json":
        write_json(target, found.to_dict())
    elif target is not None:
        report.write_comparison(found, target)
    return found


def _open(given: GivenMap, tell: Tell) -> tuple[PersonaMap, int | None]:
    source, layer = given if isinstance(given, tuple) else (given, None)
    if isinstance(source, PersonaMap):
        return source, layer
    # A folder whose own name ends in a colon and a number is that folder.
    if isinstance(source, str) and layer is None and not Path(source).exists():
        named = _FOLDER_AND_LAYER.fullmatch(source)
        if named is not None:
            source, layer = named[1], int(named[2])
    return open_map(source, tell), layer
