"""Open a map, or an imported release in its place."""

from __future__ import annotations

from pathlib import Path

from personascope.interop._release_file import is_release
from personascope.space import PersonaMap


def open_map(folder: Path | str) -> PersonaMap:
    """Open a map, or an imported release in its place.

    Raises:
        StoreError: If there is neither, or it is damaged.
        InteropError: If the release does not fit together.
    """
    if not is_release(folder):
        return PersonaMap.open(folder)
    # Import here, because only a release needs torch.
    from personascope.interop._released import Released
    from personascope.interop._released_map import ReleasedMap

    return ReleasedMap(Path(folder), Released.load(folder))
