"""Read the authors' files: one axis, a whole released folder, or the hub dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from jaxtyping import Float
from torch import Tensor

from personascope.errors import InteropError
from personascope.hub import hub_errors
from personascope.interop._capping import read_capping_config
from personascope.interop._pt import plain, read_pt, vectors
from personascope.interop._released import Released

PARTS = ("axis", "default", "roles", "traits", "capping")
"""Parts of a release; all but the axis can be left out."""

AXIS_FILES = ("assistant_axis.pt", "axis.pt")
DEFAULT_FILE, CAPPING_FILE = "default_vector.pt", "capping_config.pt"
ROLE_FOLDERS, TRAIT_FOLDER = ("role_vectors", "vectors"), "trait_vectors"
RELEASED_REPO = "lu-christina/assistant-axis-vectors"
RELEASED_MODELS = ("gemma-2-27b", "qwen-3-32b", "llama-3.3-70b")

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<folder>[\w-][\w.-]*(?:/[\w-][\w.-]*)*))?")
Progress = Callable[[int, int], None]


def import_released(
    source: Path | str,
    *,
    parts: Collection[str] = PARTS,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Released:
    """Read the released files of one model.

    Args:
        source: Folder with ``assistant_axis.pt`` (or ``axis.pt``) and any of ``default_vector.pt``,
            ``role_vectors/``, ``trait_vectors/``, ``capping_config.pt``. The pipeline's own ``vectors/`` with
            ``default.pt`` in it serves as roles and default. Or a hub dataset and a folder in it, such as
            ``lu-christina/assistant-axis-vectors:qwen-3-32b``.
        parts: Which of `PARTS` to read. Only these and the axis are fetched from a hub dataset.
        revision: Branch, tag or commit of the hub dataset.
        progress: Callback to call with (files read, total files) while roles and traits are read.

    Raises:
        InteropError: If something is missing, unsafe, damaged or inconsistent, or the axis is reversed (see
            `Released`).
    """
    wrong = sorted(set(parts) - set(PARTS))
    if wrong:
        raise InteropError(f"a release has no part {wrong[0]!r}", hint=f"choose of {', '.join(PARTS)}")
    folder = _find(str(source), parts, revision)
    found = import_axis(_axis_file(folder))
    named: dict[str, dict[str, Tensor]] = {"role": {}, "trait": {}}
    types: dict[str, str] = {}
    files = [(kind, path) for kind in named if f"{kind}s" in parts for path in _files(folder, kind)]
    for number, (kind, path) in enumerate(files, start=1):
        named[kind][path.stem], type_ = _named_vector(path)
        if type_ is not None:
            types[f"{kind}/{path.stem}"] = type_
        if progress is not None:
            progress(number, len(files))
    default = found.default_vector
    if "default" in parts and (folder / DEFAULT_FILE).is_file():
        default = _same_default(default, _named_vector(folder / DEFAULT_FILE)[0], folder)
    if "default" in named["role"]:
        # The pipeline keeps the default among the roles, where it would enter their mean.
        types.pop("role/default", None)
        default = _same_default(default, named["role"].pop("default"), folder)
    capping = folder / CAPPING_FILE
    return Released(
        axis=found.axis,
        default_vector=default if "default" in parts else None,
        role_vectors=named["role"],
        trait_vectors=named["trait"],
        role_mean=found.role_mean,
        capping=read_capping_config(capping) if "capping" in parts and capping.is_file() else None,
        types=types,
        metadata=found.metadata,
        source=str(source),
    )


def import_axis(path: Path | str) -> Released:
    """Read one axis file: a tensor [L, d], or a dict with "axis" and any other keys.

    In a dict, "default_mean" and "role_mean" (as the authors' pipeline writes them) become the default vector
    and the mean role, against which the sign is checked. "metadata" and all other keys are kept as plain
    values.

    Raises:
        InteropError: If the file is unsafe, damaged or holds no axis, or the axis is reversed.
    """
    path = Path(path)
    return axis_of(read_pt(path), path)


def axis_of(value: Any, path: Path) -> Released:
    """Convert the contents of an axis file to a release (see `import_axis`)."""
    if isinstance(value, Tensor):
        return Released(vectors(value, path, "the axis", ndim=2), source=str(path))
    if not isinstance(value, Mapping) or "axis" not in value:
        raise InteropError(
            f"{path} holds no axis but a {type(value).__name__}",
            hint='an axis file is a tensor [layers, width], or a dict with "axis"',
        )
    means: dict[str, Tensor | None] = {
        key: None if value.get(key) is None else vectors(value[key], path, key, ndim=2)
        for key in ("default_mean", "role_mean")
    }
    metadata = value.get("metadata")
    rest = {k: v for k, v in value.items() if k not in ("axis", "default_mean", "role_mean", "metadata")}
    if metadata is not None:
        rest |= metadata if isinstance(metadata, Mapping) else {"metadata": metadata}
    return Released(
        vectors(value["axis"], path, "the axis", ndim=2),
        default_vector=means["default_mean"],
        role_mean=means["role_mean"],
        metadata=plain(rest),
        source=str(path),
    )


def import_persona_vector(path: Path | str, *, n_layers: int | None = None) -> Float[Tensor, "L d"]:
    """Read a persona_vectors file, and shift it to this project's layers.

    Those files index ``hidden_states``: row 0 is the embedding and row l + 1 the output of block l. Here
    layer l is the output of block l, so row 0 is left out: [L + 1, d] becomes [L, d].

    Args:
        path: File with one tensor.
        n_layers: Number of layers of the model. The file does not say whether it has a row for the embedding.
            With ``n_layers`` a file without one is refused instead of being shifted by one layer.

    Raises:
        InteropError: If the file is unsafe or damaged, holds no such tensor, or has another number of rows.
    """
    path = Path(path)
    tensor = vectors(read_pt(path), path, "the persona vector", ndim=2)
    if len(tensor) < 2 or (n_layers is not None and len(tensor) != n_layers + 1):
        wanted = (
            "at least 2" if n_layers is None else f"{n_layers} and the embedding's, {n_layers + 1} in all"
        )
        raise InteropError(
            f"{path} has {len(tensor)} rows, and should have {wanted}",
            hint="a file whose row 0 is block 0 is an axis file: use import_axis",
        )
    return tensor[1:].clone()


def _find(source: str, parts: Collection[str], revision: str | None) -> Path:
    """Return the local folder of a source, downloading a hub dataset."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    found = _HUB.fullmatch(source)
    if path.exists() or found is None:
        raise InteropError(
            f"{source} is no folder and no hub id",
            hint=f"give a folder with {AXIS_FILES[0]}, or an id like {RELEASED_REPO}:{RELEASED_MODELS[1]}",
        )
    repo, inside = found["repo"], found["folder"]
    if inside is None and repo == RELEASED_REPO:
        raise InteropError(
            f"{repo} holds several models",
            hint=f"name one: {', '.join(f'{repo}:{m}' for m in RELEASED_MODELS)}",
        )
    root = f"{inside}/" if inside else ""
    names = {
        "axis": AXIS_FILES,
        "default": (DEFAULT_FILE,),
        "roles": tuple(f"{folder}/*.pt" for folder in ROLE_FOLDERS),
        "traits": (f"{TRAIT_FOLDER}/*.pt",),
        "capping": (CAPPING_FILE,),
    }
    patterns = [root + name for part in PARTS if part in {*parts, "axis"} for name in names[part]]
    at = f" at revision {revision!r}" if revision else ""
    with hub_errors(InteropError, repo, what="data set", revision=revision, instead="a local folder"):
        snapshot = huggingface_hub.snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=patterns
        )
    folder = Path(snapshot) / inside if inside else Path(snapshot)
    if not folder.is_dir():
        raise InteropError(f"{repo}{at} has no folder {inside!r}", hint="check the part after the colon")
    return folder


def _axis_file(folder: Path) -> Path:
    found = [folder / name for name in AXIS_FILES if (folder / name).is_file()]
    if len(found) != 1:
        raise InteropError(
            f"{folder} holds {'both ' + ' and '.join(AXIS_FILES) if found else 'no ' + AXIS_FILES[0]}",
            hint="leave one of them" if found else "name a folder with the axis of one model",
        )
    return found[0]


def _files(folder: Path, kind: str) -> list[Path]:
    names = [TRAIT_FOLDER] if kind == "trait" else [name for name in ROLE_FOLDERS if (folder / name).is_dir()]
    if len(names) > 1:
        raise InteropError(f"{folder} holds both {' and '.join(names)}", hint="leave one of them")
    return [path for name in names for path in sorted((folder / name).glob("*.pt"))]


def _named_vector(path: Path) -> tuple[Tensor, str | None]:
    """Return the vector [L, d] of a role, a trait or the default, and its type if the file names one."""
    value = read_pt(path)
    if isinstance(value, Tensor):
        return vectors(value, path, "the vector", ndim=2), None
    if not isinstance(value, Mapping) or "vector" not in value:
        raise InteropError(
            f"{path} holds no vector but a {type(value).__name__}",
            hint='it must be a tensor [layers, width], or a dict with "vector"',
        )
    name = value.get("role", value.get("trait"))
    if name is not None and name != path.stem and path.name != DEFAULT_FILE:
        raise InteropError(
            f"{path} says that it is the vector of {name!r}", hint="rename the file, or correct what is in it"
        )
    kind = value.get("type")
    return vectors(value["vector"], path, "the vector", ndim=2), None if kind is None else str(kind)


def _same_default(one: Tensor | None, other: Tensor, folder: Path) -> Tensor:
    """Return the default vector, checking that two files agree on it.

    Raises:
        InteropError: If they differ.
    """
    if one is not None and not (one.dtype == other.dtype and torch.equal(one, other)):
        raise InteropError(
            f"{folder} holds two default vectors that differ",
            hint=f"leave one of {DEFAULT_FILE}, default.pt among the roles, and default_mean beside the axis",
        )
    return other
