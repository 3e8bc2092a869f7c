"""Read one direction from a file of vectors in any common format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from personascope.errors import InteropError, StoreError
from personascope.interop._pt import read_pt, vectors
from personascope.store import read_json

DIRECTION_FILES = (".pt", ".safetensors", ".npy", ".svec", ".gguf")
"""Suffixes of the files that `read_direction` reads."""

_KEYS = ("vector", "direction", "axis")
_SHOWN = 8
_NAMED = re.compile(r"(?:^|[^a-z])(?:layers?|blocks?|blk)[._-]?(\d{1,4})(?!\d)", re.IGNORECASE)


def read_direction(
    path: Path | str, layer: int, *, n_layers: int, d_model: int, key: str | None = None
) -> Float32[np.ndarray, "d"]:
    """Read the vector of one layer, without scaling it.

    Args:
        path: File of vectors. It may be a .pt file (a tensor, a list of vectors, or a dict with "vector" or
            "axis" or with a vector for each layer; never a pickled object), a .npy or .safetensors file, a
            .svec file (JSON with "directions"), or a llama.cpp control vector (.gguf). A tensor [L, d] or a
            list has a row for each block; one of [L + 1, d] (persona_vectors) starts with a row for the
            embedding. A tensor [d] is used for any layer, unless its name or the file's names another
            (``layer_20``).
        layer: Block index, 0-based.
        n_layers: Number of blocks of the model.
        d_model: Width of the model.
        key: Name of the tensor in a .safetensors file with several.

    Raises:
        InteropError: If the file is missing, damaged, unsafe or of an unknown format, holds no such tensor,
            has another model's shape, has nothing at that layer, or belongs to another layer by its name.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in DIRECTION_FILES:
        raise InteropError(
            f"{path}: the ending {kind or '(none)'!r} says no known format",
            hint=f"give a vector in {', '.join(DIRECTION_FILES)}",
        )
    if not path.is_file():
        raise InteropError(f"there is no file {path}", hint="check the path")
    if key is not None and kind != ".safetensors":
        raise InteropError(f"{path} has no tensors by name, so none {key!r}", hint="leave out #NAME")
    name = path.stem
    if kind == ".gguf":
        tensor = _gguf(path, layer)
    else:
        if kind == ".safetensors":
            found, name = _safetensors(path, key, layer)
        else:
            read = _npy if kind == ".npy" else _svec if kind == ".svec" else _pt
            found = read(path, layer)
        ndim = found.ndim if isinstance(found, Tensor) and found.ndim in (1, 2) else 2
        tensor = vectors(found, path, "the vector", ndim=ndim)
        if tensor.ndim == 1:
            _require_layer(name, layer, path)
        else:
            tensor = _row(tensor, path, layer, n_layers)
    if len(tensor) != d_model:
        raise InteropError(
            f"{path} holds vectors of width {len(tensor)}, and the model has {d_model}",
            hint="take a vector of this model",
        )
    return tensor.float().numpy()


def _row(tensor: Float[Tensor, "L d"], path: Path, layer: int, n_layers: int) -> Float[Tensor, "d"]:
    if len(tensor) not in (n_layers, n_layers + 1):
        raise InteropError(
            f"{path} has {len(tensor)} rows, and the model {n_layers} blocks",
            hint="a file has a row for each block, and may have the embedding's before them",
        )
    return tensor[layer + len(tensor) - n_layers]


def _layer_in(name: object) -> int | None:
    """Return the layer in a name: 12, "12", "layer_12", "model.layers.12.mlp"; None if there is none."""
    if type(name) is int:
        return name
    found = _NAMED.search(name) if isinstance(name, str) else None
    if found is None:
        return int(name) if isinstance(name, str) and name.isascii() and name.isdigit() else None
    return int(found[1])


def _require_layer(name: str, layer: int, path: Path) -> None:
    """Refuse a single vector whose name says another layer."""
    said = None if name.isdigit() else _layer_in(name)
    if said is not None and said != layer:
        raise InteropError(
            f"{name!r} in {path.name} is a vector of layer {said}, and layer {layer} was asked for",
            hint=f"read it at its own layer, by @{said} or --layer {said}, or rename it if it is of another",
        )


def _by_layer(held: Mapping[Any, Any], path: Path, layer: int) -> Any:
    """Return the value of one layer in a mapping by layer; None if the keys are not all layers."""
    layers = {key: _layer_in(key) for key in held}
    if not held or any(found is None for found in layers.values()):
        return None
    at = [key for key, found in layers.items() if found == layer]
    if len(at) != 1:
        raise InteropError(
            f"{path} has {'nothing' if not at else f'{len(at)} vectors'} at layer {layer}: {_names(held)}",
            hint="choose a layer that the file has",
        )
    return held[at[0]]


def _pt(path: Path, layer: int) -> Any:
    value = read_pt(path)
    if isinstance(value, list | tuple):
        return _stacked(list(value), path)
    if not isinstance(value, Mapping):
        return value
    name = next((name for name in (*_KEYS, "directions") if name in value), None)
    held = value[name] if name is not None else value
    if isinstance(held, Mapping):
        found = _by_layer(held, path, layer)
        if found is None:
            raise InteropError(
                f"{path} holds a dict of {_names(held)}",
                hint=f"one of {', '.join(_KEYS)} is needed in it, or a vector for each layer",
            )
        held = found
    return _stacked(held, path) if isinstance(held, list) else held


def _stacked(held: list[Any], path: Path) -> Tensor:
    """Return a list of vectors, or of numbers, as a tensor."""
    if held and all(isinstance(one, int | float) and not isinstance(one, bool) for one in held):
        try:
            return torch.tensor([float(one) for one in held], dtype=torch.float64)
        except OverflowError as error:
            raise InteropError(f"{path} holds a number that no float is", hint="save it again") from error
    rows = [vectors(one, path, f"vector {place}", ndim=1) for place, one in enumerate(held)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise InteropError(
            f"{path} holds a list of {len(rows)} vectors of {len({len(row) for row in rows})} widths",
            hint="a list has a vector of one width for each block",
        )
    return torch.stack([row.double() for row in rows])


def _svec(path: Path, layer: int) -> Any:
    try:
        record = read_json(path, hint="copy it again")
    except StoreError as error:
        raise InteropError(error.message, hint=error.hint) from error
    directions = record.get("directions")
    found = _by_layer(directions, path, layer) if isinstance(directions, dict) else None
    while isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    if not isinstance(found, list):
        raise InteropError(
            f"{path} holds {_names(record)}",
            hint='it needs "directions", with a list of numbers for each layer',
        )
    return _stacked(found, path)


def _npy(path: Path, _layer: int) -> Tensor:
    try:
        # Map the file, so that a header with a false size is refused before memory is allocated.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(np.array(values, dtype=np.float32))
    except Exception as error:
        # The header is a Python literal, and a damaged one can fail in any way.
        raise InteropError(
            f"{path} is no array that can be read safely: {type(error).__name__}: {error}",
            hint="save it with numpy.save, as floats",
        ) from error


def _safetensors(path: Path, key: str | None, layer: int) -> tuple[Tensor, str]:
    """Return the chosen tensor, and its name, or the file's name if the tensor's says nothing."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            chosen = key
            if key is None:
                chosen = names[0] if len(names) == 1 else next((n for n in _KEYS if n in names), None)
                if chosen is None:
                    chosen = _by_layer({name: name for name in names}, path, layer)
            if chosen is not None and chosen in names:
                return file.get_tensor(chosen), chosen if chosen not in _KEYS else path.stem
    except (OSError, SafetensorError) as error:
        raise InteropError(f"{path} cannot be read: {error}", hint="copy or download it again") from error
    what = f"no tensor {key!r}" if key else "several tensors"
    raise InteropError(f"{path} holds {what}: {_names(names)}", hint=f"name one, as in {path.name}#NAME")


def _gguf(path: Path, layer: int) -> Tensor:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise InteropError(
            "the gguf package is not installed", hint="pip install 'personascope[gguf]'"
        ) from error
    name = f"direction.{layer}"
    try:
        held = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
        values = np.array(held[name]) if name in held else None
    except Exception as error:
        # A damaged file fails in ways that cannot be listed: ValueError, IndexError, KeyError, ...
        raise InteropError(f"{path} is not a whole GGUF file: {error}", hint="copy it again") from error
    if values is None or values.dtype.name not in ("float32", "float16"):
        raise InteropError(
            f"{path} has no {name}, but {_names(held)}", hint="choose a layer that the control vector has"
        )
    return vectors(torch.from_numpy(values), path, name, ndim=1)


def _names(found: Any) -> str:
    names = sorted(map(str, found))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" or "nothing"
