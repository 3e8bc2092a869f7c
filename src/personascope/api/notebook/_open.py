"""Open a map wherever it lies: a run folder, a map folder, an imported release, or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import api, space
from personascope.api._inputs import as_local
from personascope.api.notebook._persona_map import PersonaMap
from personascope.api.notebook._status import say
from personascope.errors import StoreError, UsageError
from personascope.runs import ProgressCallback
from personascope.space import MAP
from personascope.text import shorten

if TYPE_CHECKING:
    from personascope.api.notebook._model import Model

MapLike = PersonaMap | Path | str
"""An opened map, or the folder of one."""


def open(
    source: Path | str,
    *,
    model: Model | Path | str | None = None,
    anyway: bool = False,
    progress: ProgressCallback | bool = True,
    **loading: Any,
) -> PersonaMap:
    """Open a map: from its run folder, the map folder in it, or an imported release in place of one.

    Args:
        source: Folder; or ``hub:owner/name[@revision]``, a map that was shared, or ``hub:owner/name:folder``,
            vectors that the authors released. A copy is fetched, checked and kept in the cache.
        model: Loaded model of the map. If not given, the map's own is loaded when something is asked of it;
            a name or folder says where it is now, or which one a release is of.
        anyway: Whether to steer and cap even if the map found no axis.
        progress: Whether to show progress bars, or a callback to call instead.
        loading: How the map's own model is loaded: ``engine``, ``dtype``, ``max_batch``, ``workers``,
            ``address``.

    Raises:
        StoreError: If the folder holds no map, it is damaged, or the model is not the map's.
        SharingError: If it cannot be fetched from the hub, or is damaged.
        UsageError: If the address is malformed, or something else lies there.
    """
    folder = as_local(source, tell=say).expanduser()
    _check(folder)
    name = str(model) if isinstance(model, str | Path) else None
    mapped = api.MappedModel.open(folder, model=name, tell=say, progress=progress, **loading)
    return PersonaMap(mapped, model=None if isinstance(model, str | Path) else model, anyway=anyway)


def _check(folder: Path) -> None:
    """Say what a path is that holds no map, where that can be told.

    Raises:
        StoreError: If it is a file, does not exist, or holds a plan or a run without a map.
    """
    if not folder.exists():
        near = (
            sorted(path.parent.name for path in folder.parent.glob(f"*/{MAP}"))
            if folder.parent.is_dir()
            else []
        )
        hint = f"maps there: {', '.join(near[:8])}" if near else "make one with ps.map(model)"
        raise StoreError(f"there is no folder {folder}", hint=hint)
    if folder.is_file():
        raise StoreError(
            f"{folder} is a file, and a map is a folder",
            hint="name the run folder; `personascope pull` unpacks an archive that was shared",
        )
    if (folder / "plan.json").is_file():
        raise StoreError(f"{folder} holds a plan, not a map", hint=f"ps.Plan.load({str(folder)!r}) reads it")
    if (folder / "units").is_dir() and not (folder / MAP).is_dir():
        raise StoreError(
            f"the run in {folder} has no map yet", hint="the call or command that began it goes on with it"
        )


def as_map(pmap: MapLike | space.PersonaMap) -> PersonaMap:
    """Return an opened map; open a folder.

    Raises:
        StoreError: If the folder holds no map.
        UsageError: If the value is neither.
    """
    if isinstance(pmap, PersonaMap):
        return pmap
    if isinstance(pmap, space.PersonaMap):
        return open(pmap.folder)
    if isinstance(pmap, str | Path):
        return open(pmap)
    raise UsageError(f"{shorten(str(type(pmap).__name__))} is no map", hint="give a map, or its run folder")
