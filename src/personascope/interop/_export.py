"""Write a map, or an imported release, in the layout of the released folders (section 7 of METHOD)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personascope.errors import InteropError
from personascope.interop._folder import new_folder
from personascope.interop._import import AXIS_FILES, CAPPING_FILE, DEFAULT_FILE, ROLE_FOLDERS, TRAIT_FOLDER
from personascope.interop._pt import DTYPES, DtypeName, write_pt
from personascope.interop._released import Released
from personascope.space import PersonaMap

_NAME = re.compile(r"[\w-][\w.-]*")
_HOLDS = (AXIS_FILES[0], DEFAULT_FILE, ROLE_FOLDERS[0], TRAIT_FOLDER, CAPPING_FILE)


def export_released(
    source: PersonaMap | Released, folder: Path | str, *, dtype: DtypeName | None = None
) -> None:
    """Write ``assistant_axis.pt``, ``default_vector.pt``, ``role_vectors/*.pt`` and any other parts.

    A map is written as raw tensors [L, d], as in the released folders: its axis, its default and its "fully"
    role vectors, without "somewhat" vectors, norms and statistics. A release is written with all that was
    imported; a vector with a type, or an axis with metadata, becomes a dict again.

    Args:
        source: Opened map, or imported release.
        folder: New or empty folder, or one of an earlier export, which is replaced as a whole.
        dtype: Dtype of the tensors. The default is float32 for a map, which loses nothing, and the original
            dtype for a release. bfloat16 is the dtype of the released files, and rounds.

    Raises:
        InteropError: If a role's or trait's name cannot be a file name.
        StoreError: If the folder cannot be written, or holds something else.
    """
    to = None if dtype is None else DTYPES[dtype]
    with new_folder(Path(folder), holds=_HOLDS, kind="a released folder") as new:
        if isinstance(source, PersonaMap):
            write_pt(new / AXIS_FILES[0], _tensor(source.axis, to))
            write_pt(new / DEFAULT_FILE, _tensor(source.default_vector, to))
            (new / ROLE_FOLDERS[0]).mkdir()
            for name in source.roles:
                write_pt(_file(new / ROLE_FOLDERS[0], name), _tensor(source.role_vector(name), to))
        else:
            _write_released(source, new, to)


def _write_released(source: Released, new: Path, to: torch.dtype | None) -> None:
    axis: Any = _tensor(source.axis, to)
    if source.metadata or source.role_mean is not None:
        axis = {"axis": axis, "metadata": dict(source.metadata)}
        if source.role_mean is not None:
            axis["role_mean"] = _tensor(source.role_mean, to)
    write_pt(new / AXIS_FILES[0], axis)
    if source.default_vector is not None:
        write_pt(new / DEFAULT_FILE, _tensor(source.default_vector, to))
    _write_folder(new / ROLE_FOLDERS[0], source.role_vectors, source.types, "role", to)
    _write_folder(new / TRAIT_FOLDER, source.trait_vectors, source.types, "trait", to)
    if source.capping is not None:
        config = source.capping
        write_pt(
            new / CAPPING_FILE,
            {
                **config.metadata,
                "vectors": {
                    name: {"vector": _tensor(stored.vector, to), "layer": stored.layer}
                    for name, stored in config.vectors.items()
                },
                "experiments": [
                    {"id": name, "interventions": [{"vector": c.vector, "cap": c.cap} for c in ceilings]}
                    for name, ceilings in config.experiments.items()
                ],
            },
        )


def _write_folder(
    folder: Path, named: Mapping[str, Tensor], types: Mapping[str, str], kind: str, to: torch.dtype | None
) -> None:
    if not named:
        return
    folder.mkdir()
    for name, vector in named.items():
        value: Any = _tensor(vector, to)
        if f"{kind}/{name}" in types:
            value = {"vector": value, "type": types[f"{kind}/{name}"], kind: name}
        write_pt(_file(folder, name), value)


def _tensor(values: Any, to: torch.dtype | None) -> Tensor:
    tensor = torch.as_tensor(values)
    # Copy, because torch.save would write the whole storage of a view.
    return tensor.clone(memory_format=torch.contiguous_format) if to is None else tensor.to(to, copy=True)


def _file(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InteropError(
            f"the name {name!r} cannot be the name of a file",
            hint="rename the role in the corpus, and map again",
        )
    return folder / f"{name}.pt"
