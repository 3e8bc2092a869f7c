"""One direction out of a file of vectors, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from personascope.errors import InteropError
from personascope.interop._pt import read_pt, vectors

DIRECTION_FILES = (".pt", ".safetensors", ".npy", ".gguf")
"""Endings of the files that `read_direction` reads."""

_KEYS = ("vector", "direction", "axis")
_SHOWN = 8


def read_direction(
    path: Path | str, layer: int, *, n_layers: int, d_model: int, key: str | None = None
) -> Float32[np.ndarray, "d"]:
    """Read the vector of one layer, as long as it is.

    Args:
        path: A .pt file (a tensor, or a dict with "vector" or "axis"; never a pickled object), a .npy or
            .safetensors file, or a llama.cpp control vector (.gguf). A tensor [L, d] has a row for
            each block, one [L + 1, d] (persona_vectors) the embedding's row before them, and [d] is
            taken for whatever layer is asked for.
        layer: 0-based block index.
        n_layers: Blocks of the model.
        d_model: Width of the model.
        key: Name of the tensor, of a .safetensors file with several.

    Raises:
        InteropError: If the file is missing, damaged or unsafe, holds no such tensor, is of another model's
            shape, or has nothing at that layer.
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
    if kind == ".gguf":
        tensor = _gguf(path, layer)
    else:
        found = (
            _safetensors(path, key) if kind == ".safetensors" else _npy(path) if kind == ".npy" else _pt(path)
        )
        ndim = found.ndim if isinstance(found, Tensor) and found.ndim in (1, 2) else 2
        tensor = _row(vectors(found, path, "the vector", ndim=ndim), path, layer, n_layers)
    if len(tensor) != d_model:
        raise InteropError(
            f"{path} holds vectors of width {len(tensor)}, and the model has {d_model}",
            hint="take a vector of this model",
        )
    return tensor.float().numpy()


def _row(tensor: Float[Tensor, "..."], path: Path, layer: int, n_layers: int) -> Float[Tensor, "d"]:
    if tensor.ndim == 1:
        return tensor
    if len(tensor) not in (n_layers, n_layers + 1):
        raise InteropError(
            f"{path} has {len(tensor)} rows, and the model {n_layers} blocks",
            hint="a file has a row for each block, and may have the embedding's before them",
        )
    return tensor[layer + len(tensor) - n_layers]


def _pt(path: Path) -> Any:
    value = read_pt(path)
    if not isinstance(value, Mapping):
        return value
    name = next((name for name in _KEYS if name in value), None)
    if name is None:
        raise InteropError(
            f"{path} holds a dict of {_names(value)}", hint=f"one of {', '.join(_KEYS)} is needed in it"
        )
    return value[name]


def _npy(path: Path) -> Tensor:
    try:
        values = np.load(path, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InteropError(
            f"{path} is no array that can be read safely: {error}", hint="save it with numpy.save, as floats"
        ) from error


def _safetensors(path: Path, key: str | None) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            chosen = key
            if key is None:
                chosen = names[0] if len(names) == 1 else next((n for n in _KEYS if n in names), None)
            if chosen in names:
                return file.get_tensor(chosen)
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
    try:
        held = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    except Exception as error:
        # A damaged file fails in ways that cannot be listed: ValueError, IndexError, KeyError, ...
        raise InteropError(f"{path} is not a whole GGUF file: {error}", hint="copy it again") from error
    name = f"direction.{layer}"
    if name not in held or held[name].dtype not in (np.float32, np.float16):
        raise InteropError(
            f"{path} has no {name}, but {_names(held)}", hint="choose a layer that the control vector has"
        )
    return vectors(torch.from_numpy(held[name]), path, name, ndim=1)


def _names(found: Any) -> str:
    names = sorted(map(str, found))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" or "nothing"
