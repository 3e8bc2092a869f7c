"""Read a folder, a hub id, or one of the authors' files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from personascope.interop._capping import CappingConfig, capping_config, is_capping_config
from personascope.interop._import import PARTS, Progress, axis_of, import_released
from personascope.interop._pt import read_pt
from personascope.interop._release_file import RELEASED_JSON
from personascope.interop._released import Released


def import_source(
    source: Path | str,
    *,
    parts: Collection[str] = PARTS,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Released | CappingConfig:
    """Read a released folder, a hub id, what `Released.save` wrote, an axis file or a capping config.

    A file's content tells whether it is an axis or a capping config. The arguments are those of
    `import_released`; a file or a saved folder is read whole.

    Raises:
        InteropError: If the source is none of these, or is unsafe, damaged or reversed.
        StoreError: If a saved folder is damaged.
    """
    path = Path(source).expanduser()
    if path.is_file():
        value = read_pt(path)
        return capping_config(value, path) if is_capping_config(value) else axis_of(value, path)
    if (path / RELEASED_JSON).is_file():
        return Released.load(path)
    return import_released(source, parts=parts, revision=revision, progress=progress)
