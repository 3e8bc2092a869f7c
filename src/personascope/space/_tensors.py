"""The tensors of a map on disk, compared with their digests when they are first read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from personascope.errors import StoreError
from personascope.space._record import tensor_digest

REMAKE = "Make the map again, or copy the whole folder again from where it came from."


class MapTensors:
    """An open ``map.safetensors`` whose tensors are read on demand.

    Attributes:
        path: Path of the file.
        shapes: Tensor name -> shape.
        pair: Id that pairs the file with its ``map.json``.
        digests: Tensor name -> SHA-256, or a list with one per layer for three-dimensional tensors; None
            until set, and for maps of earlier versions.

    Raises:
        StoreError: If the file is missing, or is no complete safetensors file.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and read its header."""
        self.path = path
        self.digests: Mapping[str, str | list[str]] | None = None
        self._compared: set[tuple[str, int | None]] = set()
        try:
            self._file: Any = safe_open(path, framework="numpy")
            names: list[str] = list(self._file.keys())
            self.shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in names}
            self.pair = (self._file.metadata() or {}).get("pair")
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path} cannot be read: {error}", hint=REMAKE) from error

    def get(self, name: str) -> np.ndarray:
        """Read a tensor.

        Raises:
            StoreError: If the tensor was changed since it was written.
        """
        value = self._read(name)
        digests = None if self.digests is None else self.digests[name]
        if isinstance(digests, str):
            self._compare(name, None, value, digests)
        elif digests is not None:
            for layer, part in enumerate(value):
                self._compare(name, layer, part, self._digest(name, layer))
        return value

    def layer(self, name: str, layer: int) -> np.ndarray:
        """Read one layer of a three-dimensional tensor.

        Raises:
            StoreError: If the layer was changed since it was written.
        """
        value = self._read(name, layer)
        if self.digests is not None:
            self._compare(name, layer, value, self._digest(name, layer))
        return value

    def vector(self, name: str, index: int) -> np.ndarray:
        """Read one vector at all layers, [L, d]; the first read compares all layers with their digests.

        Raises:
            StoreError: If a layer was changed since it was written.
        """
        for layer in range(self.shapes[name][0]):
            if (name, layer) not in self._compared and self.digests is not None:
                self.layer(name, layer)
        return self._read(name, (slice(None), index))

    def _read(self, name: str, index: Any = None) -> np.ndarray:
        try:
            return self._file.get_tensor(name) if index is None else self._file.get_slice(name)[index]
        except (OSError, SafetensorError, TypeError, AttributeError) as error:
            # A dtype that NumPy lacks raises TypeError or AttributeError.
            raise StoreError(f"{name} in {self.path} cannot be read: {error}", hint=REMAKE) from error

    def _digest(self, name: str, layer: int) -> str:
        digests = None if self.digests is None else self.digests[name]
        if not isinstance(digests, list) or len(digests) != self.shapes[name][0]:
            raise StoreError(f"{self.path} and the digests of {name} do not belong together", hint=REMAKE)
        return digests[layer]

    def _compare(self, name: str, layer: int | None, value: np.ndarray, digest: str) -> None:
        if (name, layer) in self._compared:
            return
        if tensor_digest(value) != digest:
            where = name if layer is None else f"{name} of layer {layer}"
            raise StoreError(f"{where} in {self.path} was changed since it was written", hint=REMAKE)
        self._compared.add((name, layer))
