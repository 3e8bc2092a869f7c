"""Safetensors files, written array by array and read entry by entry.

The safetensors library writes all tensors of a file at once, and reads through a memory map whose pages count
as resident memory. A run's files are too large for that, so this module writes and reads the (simple) format
itself. Any safetensors reader can open the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from personascope.errors import StoreError

Dtype = Literal["F32", "F64", "BF16", "I64"]

_NUMPY: dict[Dtype, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}


MAX_HEADER = 2**27
"""Maximum size of a header, in bytes."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of a file."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Size of the tensor in the file, in bytes."""
        return math.prod(self.shape) * _NUMPY[self.dtype].itemsize


@dataclass(frozen=True, slots=True)
class TensorPart:
    """Contents of a safetensors file to write; the arrays may be generated lazily.

    Attributes:
        specs: Specifications of the tensors, in file order.
        arrays: Arrays of the tensors, in the same order; float32 for a BF16 tensor.
        metadata: String values for the file's header.
    """

    specs: Sequence[TensorSpec]
    arrays: Iterable[np.ndarray]
    metadata: Mapping[str, str] = field(default_factory=dict)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round finite float32 values to the nearest bfloat16, ties to even; return uint16 bits."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 bits to float32."""
    return (bits.astype("<u4") << 16).view("<f4")


def write_tensors(path: Path, part: TensorPart) -> str:
    """Write a safetensors file, flush it to disk, and return its SHA-256 (hex).

    Raises:
        OSError: If the file cannot be written.
        ValueError: If an array does not fit its spec.
    """
    header: dict[str, Any] = {"__metadata__": dict(part.metadata)} if part.metadata else {}
    offset = 0
    for spec in part.specs:
        header[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.n_bytes],
        }
        offset += spec.n_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    sha256 = hashlib.sha256(head)
    with path.open("wb") as file:
        file.write(head)
        for spec, array in zip(part.specs, part.arrays, strict=True):
            if tuple(array.shape) != spec.shape:
                raise ValueError(f"tensor {spec.name} has shape {array.shape}, announced was {spec.shape}")
            data = to_bfloat16(array) if spec.dtype == "BF16" else array
            data = np.ascontiguousarray(data, dtype=_NUMPY[spec.dtype]).reshape(-1).view("u1").data
            file.write(data)
            sha256.update(data)
        file.flush()
        os.fsync(file.fileno())
    return sha256.hexdigest()


class TensorFile:
    """A safetensors file; only its header is held in memory.

    Attributes:
        path: Path of the file.
        specs: Tensor name -> specification.
        metadata: String values of the header.

    Raises:
        StoreError: If the file is missing, cut short, or not safetensors.
    """

    def __init__(self, path: Path) -> None:
        """Read and check the header."""
        self.path = path
        self.metadata: dict[str, str] = {}
        self.specs: dict[str, TensorSpec] = {}
        self._offsets: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                length = int.from_bytes(file.read(8), "little")
                if length > min(size - 8, MAX_HEADER):
                    raise ValueError(f"its header would take {length} bytes of {size}")
                header = json.loads(file.read(length))
            self.metadata = dict(header.pop("__metadata__", {}))
            if not all(isinstance(value, str) for value in self.metadata.values()):
                raise ValueError("its metadata holds more than text")
            for name, entry in header.items():
                shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
                if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
                    raise ValueError(f"tensor {name} has a shape or a place that is none")
                spec = TensorSpec(name, entry["dtype"], shape)
                if end - start != spec.n_bytes or 8 + length + end > size:
                    raise ValueError(f"tensor {name} does not fit the file")
                self.specs[name] = spec
                self._offsets[name] = 8 + length + start
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a whole safetensors file: {error}", hint="use another folder, or --restart"
            ) from error

    def read(self, name: str, index: int | None = None) -> np.ndarray:
        """Read a tensor, or the entry ``index`` along its first axis; BF16 is returned as float32.

        Raises:
            KeyError: If the file has no tensor of that name.
            IndexError: If the first axis has no such entry.
            StoreError: If the file was removed or truncated.
        """
        spec = self.specs[name]
        shape, offset = spec.shape, self._offsets[name]
        dtype = _NUMPY[spec.dtype]
        if index is not None:
            if not 0 <= index < shape[0]:
                raise IndexError(f"tensor {name} has {shape[0]} entries, none at {index}")
            shape = shape[1:]
            offset += index * math.prod(shape) * dtype.itemsize
        count = math.prod(shape)
        try:
            flat = np.fromfile(self.path, dtype=dtype, count=count, offset=offset)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be read: {error}", hint="run again with --restart"
            ) from error
        if flat.size != count:
            raise StoreError(f"{self.path} is cut short", hint="run again with --restart")
        return (from_bfloat16(flat) if spec.dtype == "BF16" else flat).reshape(shape)
