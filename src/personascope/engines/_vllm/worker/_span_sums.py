"""Sums of the residual stream over spans of tokens, in slots that requests take and give back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from personascope.interventions import add_rows


class Slots:
    """Slot numbers that are taken and given back; more are made when none is free.

    Attributes:
        end: Number behind the last slot.
        free: Slots that nobody has; the last one is taken next.
    """

    def __init__(self, first: int, more: Callable[[Slots], None], *, count: int = 0) -> None:
        """Make some free slots.

        Args:
            first: Number of the first slot.
            more: Called when none is free; it makes more with `grow`, or raises.
            count: Number of slots at the beginning.
        """
        self.first = self.end = first
        self.free: list[int] = []
        self._more = more
        self.grow(count)

    def __len__(self) -> int:
        """Return the number of slots, taken or free."""
        return self.end - self.first

    def take(self) -> int:
        """Return a slot that is nobody else's."""
        if not self.free:
            self._more(self)
        return self.free.pop()

    def grow(self, count: int) -> None:
        """Add free slots, the lowest of which is taken first."""
        self.free += range(self.end + count - 1, self.end - 1, -1)
        self.end += count


class SpanSums:
    """Sums of activations and of their norms for each slot and layer; they grow with what is pooled.

    Attributes:
        slots: The slots of the sums.
    """

    def __init__(self, d_model: int, device: torch.device) -> None:
        """Begin empty; tensors are made for the layers that are pooled."""
        self.d_model, self.device = d_model, device
        self.slots = Slots(0, lambda slots: slots.grow(max(64, len(slots))))
        self._sums: dict[int, Tensor] = {}
        self._norms: dict[int, Tensor] = {}

    def take(self) -> int:
        """Return a free slot whose sums are zero."""
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
            hidden: [tokens, d], the stream or what is added to ``residual``.
            residual: [tokens, d], or None.
            rows: Rows that are added, on the device and on the host.
            slots: Slot of each row, likewise.
        """
        sums = self._sum(layer)
        if not add_rows(hidden, residual, rows[1], sums, slots[1]):
            sums.index_add_(0, slots[0], take_rows(hidden, residual, rows[0]).float())

    def add_norms(
        self, layer: int, hidden: Tensor, residual: Tensor | None, rows: Tensor, slots: Tensor
    ) -> None:
        """Add the norms of rows of the stream to their slots' sums; arguments as of `add`, on the device."""
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
