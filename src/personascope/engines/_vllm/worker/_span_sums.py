"""Sums of the residual stream over spans of tokens, in slots that requests take and return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from personascope.interventions import add_rows


class Slots:
    """Pool of slot numbers, which grows when none is free.

    Attributes:
        end: Number after the last slot.
        free: Free slots; the last one is taken next.
    """

    def __init__(self, first: int, more: Callable[[Slots], None], *, count: int = 0) -> None:
        """Create a pool.

        Args:
            first: Number of the first slot.
            more: Function called when no slot is free; it adds some with `grow`, or raises.
            count: Initial number of slots.
        """
        self.first = self.end = first
        self.free: list[int] = []
        self._more = more
        self.grow(count)

    def __len__(self) -> int:
        """Return the number of slots, taken or free."""
        return self.end - self.first

    def take(self) -> int:
        """Take a free slot."""
        if not self.free:
            self._more(self)
        return self.free.pop()

    def grow(self, count: int) -> None:
        """Add free slots, of which the lowest is taken first."""
        self.free += range(self.end + count - 1, self.end - 1, -1)
        self.end += count


class SpanSums:
    """Sums of activations and of their norms for each slot and layer, which grow as needed.

    Attributes:
        slots: Slots of the sums.
    """

    def __init__(self, d_model: int, device: torch.device) -> None:
        """Begin empty; tensors are allocated for the pooled layers."""
        self.d_model, self.device = d_model, device
        self.slots = Slots(0, lambda slots: slots.grow(max(64, len(slots))))
        self._sums: dict[int, Tensor] = {}
        self._norms: dict[int, Tensor] = {}

    def take(self) -> int:
        """Take a free slot and set its sums to zero."""
        slot = self.slots.take()
        for tensor in (*self._sums.values(), *self._norms.values()):
            if slot < len(tensor):
                tensor[slot] = 0
        return slot

    def pooled(self, layer: int, slots: Tensor) -> np.ndarray:
        """Return a layer's sums, [slots, d] float32."""
        return self._sum(layer)[slots].cpu().numpy()

    def norms(self, layer: int, slots: Tensor) -> np.ndarray:
        """Return a layer's sums of norms, [slots]."""
        return self._norm(layer)[slots].cpu().numpy()

    def add(
        self,
        layer: int,
        hidden: Tensor,
        residual: Tensor | None,
        rows: tuple[Tensor, np.ndarray],
        slots: tuple[Tensor, np.ndarray],
    ) -> None:
        """Add rows of the stream to their slots' sums.

        Args:
            layer: Block index.
            hidden: Residual stream, or its part to be added to ``residual``, [tokens, d].
            residual: Other part of the stream, [tokens, d], or None.
            rows: Rows to add, on the device and on the host.
            slots: Slot of each row, on the device and on the host.
        """
        sums = self._sum(layer)
        if not add_rows(hidden, residual, rows[1], sums, slots[1]):
            sums.index_add_(0, slots[0], take_rows(hidden, residual, rows[0]).float())

    def add_norms(
        self, layer: int, hidden: Tensor, residual: Tensor | None, rows: Tensor, slots: Tensor
    ) -> None:
        """Add the norms of rows of the stream to their slots' sums; arguments as in `add`, on the device."""
        norms = take_rows(hidden, residual, rows).float().norm(dim=-1)
        self._norm(layer).index_add_(0, slots, norms.double())

    def _sum(self, layer: int) -> Tensor:
        shape = (self.slots.end, self.d_model)
        return _wide_enough(self._sums, layer, shape, self.device, torch.float32)

    def _norm(self, layer: int) -> Tensor:
        return _wide_enough(self._norms, layer, (self.slots.end,), self.device, torch.float64)


def take_rows(hidden: Tensor, residual: Tensor | None, rows: Tensor) -> Tensor:
    """Return rows of the residual stream, [rows, d]."""
    part = hidden.index_select(0, rows)
    return part if residual is None else part + residual.index_select(0, rows)


def _wide_enough(
    tensors: dict[int, Tensor], layer: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    old = tensors.get(layer)
    if old is None or len(old) < shape[0]:
        new = torch.zeros(shape, dtype=dtype, device=device)
        if old is not None:
            new[: len(old)] = old
        tensors[layer] = new
    return tensors[layer]
