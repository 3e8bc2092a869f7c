"""Read PyTorch's ``.pt`` files without running their code, and write them whole or not at all."""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from personascope.errors import InteropError, StoreError
from personascope.store import write_bytes

DtypeName = Literal["float32", "bfloat16"]
"""Dtypes in which vectors are exported."""

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_READ = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_DEPTH, MAX_VALUES = 64, 2**20
"""Maximum depth and number of the values of a file; a list may contain itself."""
_GLOBAL = re.compile(r"(?:GLOBAL|class) ([\w.]+)")


def read_pt(path: Path) -> Any:
    """Read a file of tensors, numbers, strings, lists and dicts; no other object is built from it.

    A ``.pt`` file is a pickle, and unpickling in the ordinary way runs any code in it. Here only tensors and
    plain values are rebuilt, on the CPU.

    Raises:
        InteropError: If the file is missing, damaged or compressed, holds a pickled object, or its values are
            larger than the file.
    """
    if not path.is_file():
        raise InteropError(f"there is no file {path}", hint="check the path")
    _require_stored(path)
    try:
        with warnings.catch_warnings():
            # torch.load warns about pickle protocols; what it cannot read it refuses anyway.
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        what = f"the pickled object {found.group(1)}" if found else "more than tensors and plain values"
        raise InteropError(
            f"{path} holds {what} and is refused: reading it could run code",
            hint="have it saved again as tensors, numbers and texts only",
        ) from error
    except Exception as error:
        # A damaged archive can fail in any way: KeyError, EOFError, RuntimeError, ...
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InteropError(
            f"{path} is not a whole PyTorch file: {type(error).__name__}: {reason}",
            hint="copy or download it again",
        ) from error
    _require_sizes(value, path)
    return value


def _require_stored(path: Path) -> None:
    """Refuse an archive with compressed or encrypted files, which PyTorch never writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = next((one for one in archive.infolist() if one.compress_type or one.flag_bits & 1), None)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error):
        # Not an archive: an earlier format or a damaged file, which torch.load reports better.
        return
    if packed is not None:
        raise InteropError(
            f"{path} holds {packed.filename!r} compressed, which PyTorch never does",
            hint="have it saved again by torch.save",
        )


def _require_sizes(value: Any, path: Path) -> None:
    """Refuse tensors larger than their file, and values that are too many or nested too deep."""
    size = path.stat().st_size
    waiting: list[tuple[Any, int]] = [(value, 0)]
    count = 0
    while waiting:
        found, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            what = f"are nested {depth} deep" if depth > MAX_DEPTH else f"are more than {MAX_VALUES:,}"
            raise InteropError(
                f"{path}: its values {what}, or hold themselves", hint="have it saved again, flat"
            )
        if isinstance(found, Tensor):
            # A view may repeat its storage, or claim a size that no storage backs.
            n_bytes = found.numel() * found.element_size()
            if n_bytes > size:
                raise InteropError(
                    f"{path}: a tensor {list(found.shape)} would take {n_bytes:,} bytes, the file {size:,}",
                    hint="have it saved again as a tensor of its own, by .contiguous().clone()",
                )
        elif isinstance(found, Mapping):
            waiting += [(one, depth + 1) for pair in found.items() for one in pair]
        elif isinstance(found, list | tuple | set | frozenset):
            waiting += [(one, depth + 1) for one in found]


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
    """Check a tensor of a file, and return a copy with its own storage.

    Args:
        value: Value from the file.
        path: Path of the file, for messages.
        what: Name of the tensor, for messages.
        ndim: Number of dimensions: 2 for [L, d], 1 for [d].

    Raises:
        InteropError: If it is not a dense, non-empty tensor of finite floats with that many dimensions.
    """
    shape = "[layers, width]" if ndim == 2 else "[width]"
    if not isinstance(value, Tensor):
        raise InteropError(f"{path}: {what} is a {type(value).__name__}", hint=f"it must be a tensor {shape}")
    if value.layout is not torch.strided or value.is_meta or value.dtype not in _READ:
        raise InteropError(
            f"{path}: {what} is a tensor of {value.dtype}, {value.layout}",
            hint="save it dense, as float32, float64, float16 or bfloat16",
        )
    if value.ndim != ndim or not value.numel():
        raise InteropError(f"{path}: {what} has shape {list(value.shape)}", hint=f"it must be {shape}")
    # Copy, because saving a view later would write its whole storage.
    tensor = value.detach().clone(memory_format=torch.contiguous_format)
    if not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise InteropError(
            f"{path}: {count} of {tensor.numel()} values of {what} are not finite",
            hint="make the file again; float16 overflows in some models",
        )
    return tensor


def plain(value: Any) -> Any:
    """Convert a value to JSON types: tuples and sets to lists, unknown types to strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
