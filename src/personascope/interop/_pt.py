"""PyTorch's ``.pt`` files, read without running what is in them, and written whole or not at all."""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from personascope.errors import InteropError, StoreError
from personascope.store import write_bytes

DtypeName = Literal["float32", "bfloat16"]
"""Types in which vectors are exported."""

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_READ = (torch.float32, torch.float16, torch.bfloat16)
_GLOBAL = re.compile(r"(?:GLOBAL|class) ([\w.]+)")


def read_pt(path: Path) -> Any:
    """Read a file of tensors, numbers, texts, lists and dicts; nothing else is ever built from it.

    A ``.pt`` file is a pickle, and reading one in the ordinary way runs whatever it says. Here only
    tensors and plain values are rebuilt, on the CPU.

    Raises:
        InteropError: If the file is missing, damaged, or holds a pickled object.
    """
    if not path.is_file():
        raise InteropError(f"there is no file {path}", hint="check the path")
    try:
        with warnings.catch_warnings():
            # It warns of pickle protocols; what it cannot read it refuses anyway.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        what = f"the pickled object {found.group(1)}" if found else "more than tensors and plain values"
        raise InteropError(
            f"{path} holds {what} and is refused: reading it could run code",
            hint="have it saved again as tensors, numbers and texts only",
        ) from error
    except Exception as error:
        # A damaged archive fails in ways that cannot be listed: KeyError, EOFError, RuntimeError, ...
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InteropError(
            f"{path} is not a whole PyTorch file: {type(error).__name__}: {reason}",
            hint="copy or download it again",
        ) from error


def write_pt(path: Path, value: Any) -> None:
    """Write a ``.pt`` file atomically.

    Raises:
        StoreError: If it could not be written.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path.parent} could not be made: {error.strerror or error}", hint="choose another folder"
        ) from error
    write_bytes(path, buffer.getvalue())


def vectors(value: Any, path: Path, what: str, *, ndim: int) -> Float[Tensor, "..."]:
    """Return a tensor of a file, checked, with a storage of its own.

    Args:
        value: What was read.
        path: The file, for messages.
        what: What the tensor is, for messages.
        ndim: 2 for [L, d], 1 for [d].

    Raises:
        InteropError: If it is no dense tensor of floats of that many dimensions, or not finite.
    """
    shape = "[layers, width]" if ndim == 2 else "[width]"
    if not isinstance(value, Tensor):
        raise InteropError(f"{path}: {what} is a {type(value).__name__}", hint=f"it must be a tensor {shape}")
    if value.layout is not torch.strided or value.is_meta or value.dtype not in _READ:
        raise InteropError(
            f"{path}: {what} is a tensor of {value.dtype}, {value.layout}",
            hint="save it dense, as float32, float16 or bfloat16",
        )
    if value.ndim != ndim or not value.numel():
        raise InteropError(f"{path}: {what} has shape {list(value.shape)}", hint=f"it must be {shape}")
    # A view would drag the whole of its storage into whatever is saved next.
    tensor = value.detach().clone(memory_format=torch.contiguous_format)
    if not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise InteropError(
            f"{path}: {count} of {tensor.numel()} values of {what} are not finite",
            hint="make the file again; float16 overflows in some models",
        )
    return tensor


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: tuples and sets as lists, what JSON does not know as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
