"""Read heads and rope factors of GGUF files, and join their parts.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, little-endian. The gguf
package needs half a minute for a large vocabulary, this module milliseconds for a head.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from personascope.errors import ModelError

MAGIC = b"GGUF"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# Sizes in bytes of the metadata's scalar types, by type number; 8 is a string and 9 an array.
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_ALIGNMENT = "general.alignment"
_ROPE_FACTORS = "rope_freqs.weight"
# Scaling factors of the Llama 3.1 and 3.2 models; the other numbers are the same in all of them.
_LLAMA3_FACTORS = (8.0, 32.0)
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, dimensions, type number, and offset from the beginning of the data of one tensor."""

    name: str
    dims: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHead:
    """Head of a GGUF file: everything before the tensor data.

    Attributes:
        version: Version of the format.
        n_values: Number of metadata values.
        values: Raw bytes of the metadata.
        alignment: Alignment of the tensors' offsets, in bytes.
        tensors: Tensors in the order of the file.
        data: Offset in the file at which the tensor data begins.
    """

    version: int
    n_values: int
    values: bytes
    alignment: int
    tensors: tuple[TensorInfo, ...]
    data: int


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return all parts of the model that a file belongs to by its name, in order, or the file alone.

    Raises:
        ModelError: If a part is missing.
    """
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    parts = tuple(
        path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    )
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelError(
            f"{path.name} is one of {count} parts, and {', '.join(missing)} is not beside it",
            hint=f"fetch all parts into {path.parent}",
        )
    return parts


def read_head(path: Path) -> GgufHead:
    """Read the head of a GGUF file.

    Raises:
        ModelError: If the file is no GGUF file of version 2 or 3, or ends within its head.
    """
    try:
        with path.open("rb") as file:
            return _read_head(file)
    except (struct.error, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} is no whole GGUF file: {error}", hint="check that it was fetched whole"
        ) from error


def join_parts(parts: Sequence[Path], target: Path) -> None:
    """Join the parts of a model into one file with the first part's metadata and all tensors.

    Raises:
        ModelError: If a part is damaged.
    """
    heads = [read_head(part) for part in parts]
    alignment = heads[0].alignment
    infos: list[bytes] = []
    bases: list[int] = []
    end = 0
    for part, head in zip(parts, heads, strict=True):
        base = _aligned(end, alignment)
        bases.append(base)
        end = base + part.stat().st_size - head.data
        for tensor in head.tensors:
            name = tensor.name.encode()
            infos.append(struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.dims)))
            infos.append(struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims))
            infos.append(struct.pack("<IQ", tensor.kind, base + tensor.offset))
    n_tensors = sum(len(head.tensors) for head in heads)
    begin = MAGIC + struct.pack("<IQQ", heads[0].version, n_tensors, heads[0].n_values)
    before = begin + heads[0].values + b"".join(infos)
    with target.open("wb") as whole:
        whole.write(before.ljust(_aligned(len(before), alignment), b"\0"))
        data = whole.tell()
        for part, head, base in zip(parts, heads, bases, strict=True):
            whole.write(b"\0" * (data + base - whole.tell()))
            with part.open("rb") as piece:
                piece.seek(head.data)
                shutil.copyfileobj(piece, whole, 1 << 20)


def count_numbers(head: GgufHead) -> int:
    """Return the total number of weights in all tensors, rope factors excluded."""
    return sum(math.prod(tensor.dims) for tensor in head.tensors if tensor.name != _ROPE_FACTORS)


def rope_scaling(path: Path, head: GgufHead, base: float, head_dim: int) -> dict[str, Any] | None:
    """Return the config of the rotary scaling that a file stores as factors; None if it has none.

    Raises:
        ModelError: If the factors are not those of a Llama 3 model, the only ones that are supported.
    """
    tensor = next((tensor for tensor in head.tensors if tensor.name == _ROPE_FACTORS), None)
    if tensor is None:
        return None
    with path.open("rb") as file:
        file.seek(head.data + tensor.offset)
        factors = np.frombuffer(file.read(4 * math.prod(tensor.dims)), "<f4")
    if np.allclose(factors, 1.0):
        return None
    for factor in _LLAMA3_FACTORS:
        if len(factors) == head_dim // 2 and np.allclose(factors, _llama3(factor, base, head_dim), rtol=1e-3):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    raise ModelError(
        f"{path.name} scales its rotary frequencies by factors that Transformers does not read",
        hint="use the model's safetensors, whose config says how they are scaled",
    )


def _llama3(factor: float, base: float, head_dim: int) -> np.ndarray:
    """Return the divisor of each rotary frequency in the models since Llama 3.1."""
    waves = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    low, high, length = (float(value) for value in _LLAMA3.values())
    share = ((length / waves - low) / (high - low)).clip(0.0, 1.0)
    return 1.0 / ((1.0 - share) / factor + share)


def _read_head(file: BinaryIO) -> GgufHead:
    magic, version, n_tensors, n_values = struct.unpack("<4sIQQ", _exactly(file, 24))
    if magic != MAGIC or version not in (2, 3):
        raise ValueError(f"it begins with {magic!r}, version {version}")
    begin = file.tell()
    alignment = 32
    for _ in range(n_values):
        key = _string(file)
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        if key == _ALIGNMENT.encode():
            (alignment,) = struct.unpack("<I", _exactly(file, 4))
        else:
            _skip(file, kind)
    end = file.tell()
    file.seek(begin)
    values = _exactly(file, end - begin)
    tensors: list[TensorInfo] = []
    for _ in range(n_tensors):
        name = _string(file).decode()
        (n_dims,) = struct.unpack("<I", _exactly(file, 4))
        dims = struct.unpack(f"<{n_dims}Q", _exactly(file, 8 * n_dims))
        kind, offset = struct.unpack("<IQ", _exactly(file, 12))
        tensors.append(TensorInfo(name, dims, kind, offset))
    return GgufHead(version, n_values, values, alignment, tuple(tensors), _aligned(file.tell(), alignment))


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == 8:
        _string(file)
    elif kind == 9:
        kind, count = struct.unpack("<IQ", _exactly(file, 12))
        if kind in _WIDTHS:
            _exactly(file, _WIDTHS[kind] * count)
        else:
            for _ in range(count):
                _skip(file, kind)
    else:
        _exactly(file, _WIDTHS[kind])


def _string(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    return _exactly(file, length)


def _exactly(file: BinaryIO, count: int) -> bytes:
    if count > 1 << 31:
        raise ValueError(f"it names a length of {count} bytes")
    data = file.read(count)
    if len(data) != count:
        raise ValueError("it ends in its head")
    return data


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
