"""Key-value cache of the running rows: one buffer per layer, rows right-aligned at a common column.

Every step writes one column for all rows, whatever their lengths, so a step costs one small copy
instead of a concatenation of everything. The last row takes the place of a row that ends.
Sliding-window layers keep all columns and are masked instead, which is exact but needs more memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

GROWTH = 64


def keys_values(cache: Cache, index: int) -> tuple[Tensor, Tensor] | None:
    """Return the keys and values of one layer, [rows, key heads, tokens, head width] each.

    The result is None if the layer keeps none of its own and reads those of an earlier layer.
    """
    layer = cache.layers[index] if index < len(cache.layers) else None
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return None if keys is None or values is None else (keys, values)


class Columns:
    """The part of the buffers that is in use, shared by all layers.

    Attributes:
        slots: Number of rows allocated.
        rows: Number of rows in use, [0, rows).
        start: First column that any row uses.
        end: Column after the last written one.
        capacity: Number of columns allocated.
    """

    def __init__(self, slots: int) -> None:
        """Begin with nothing in use."""
        self.slots = slots
        self.rows = 0
        self.start = 0
        self.end = 0
        self.capacity = 0


class SlotLayer(CacheLayerMixin):
    """Buffers of one layer, [slots, key heads, capacity, head width] each."""

    is_sliding = False

    def __init__(self, columns: Columns) -> None:
        """Share the columns with the other layers."""
        super().__init__()
        self.columns = columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers with the shape and dtype of the first keys and values."""
        at = self.columns
        self.keys = key_states.new_zeros(at.slots, key_states.shape[1], at.capacity, key_states.shape[3])
        self.values = value_states.new_zeros(
            at.slots, value_states.shape[1], at.capacity, value_states.shape[3]
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the step's column, and return views of all columns in use."""
        del args, kwargs
        at = self.columns
        stop = at.end + key_states.shape[2]
        self.k[: at.rows, :, at.end : stop] = key_states
        self.v[: at.rows, :, at.end : stop] = value_states
        return self.k[: at.rows, :, at.start : stop], self.v[: at.rows, :, at.start : stop]

    @property
    def k(self) -> Tensor:
        """Buffer of the keys."""
        assert self.keys is not None
        return self.keys

    @property
    def v(self) -> Tensor:
        """Buffer of the values."""
        assert self.values is not None
        return self.values

    def get_mask_sizes(self, query_length: int | Tensor) -> tuple[int, int]:
        """Return key length and offset of the mask; early releases of Transformers 5 pass positions."""
        new = query_length.shape[0] if isinstance(query_length, Tensor) else query_length
        return self.get_seq_length() + new, 0

    def get_seq_length(self) -> int:
        """Return the number of columns in use."""
        return self.columns.end - self.columns.start

    def get_max_length(self) -> int:
        """Return -1: the buffers grow."""
        return -1

    def get_max_cache_shape(self) -> int:
        """Return -1: the buffers grow."""
        return -1

    def resize(self, capacity: int, shift: int) -> None:
        """Move the columns in use by ``shift`` into buffers of ``capacity`` columns."""
        if not self.is_initialized:
            return
        at = self.columns
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old if old.shape[2] == capacity else old.new_zeros(*old.shape[:2], capacity, old.shape[3])
            part = old[: at.rows, :, at.start : at.end].clone()
            new[: at.rows, :, at.start + shift : at.end + shift] = part
            setattr(self, name, new)


class SlotCache(Cache):
    """Cache of the model while rows run.

    Attributes:
        columns: Part of the buffers that is in use.
        slots: Buffers of each layer.
        starts: First column of each row in use.
    """

    def __init__(self, n_layers: int, slots: int) -> None:
        """Create a layer for each block; buffers are allocated with the first rows."""
        self.columns = Columns(slots)
        self.slots = [SlotLayer(self.columns) for _ in range(n_layers)]
        super().__init__(layers=list(self.slots))
        self.starts: list[int] = []

    def admit(self, prefilled: DynamicCache, source: list[tuple[int, int, int]]) -> None:
        """Copy rows from a prefilled cache.

        Args:
            prefilled: Keys and values of a batch of prompts.
            source: Place of each new row in that cache, as (batch row, first column, end column).
        """
        at = self.columns
        longest = max(stop - start for _, start, stop in source)
        if at.rows == 0:
            at.start = at.end = 0
        self._make_room(before=longest, after=1)
        for index, layer in enumerate(self.slots):
            pair = keys_values(prefilled, index)
            if pair is None:
                continue
            keys, values = pair
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            for place, (row, start, stop) in enumerate(source, start=at.rows):
                begin = at.end - (stop - start)
                layer.k[place, :, begin : at.end] = keys[row, :, start:stop]
                layer.v[place, :, begin : at.end] = values[row, :, start:stop]
        self.starts += [at.end - (stop - start) for _, start, stop in source]
        at.rows += len(source)
        at.start = min(self.starts)

    def advance(self) -> None:
        """Count the column that a step has just written."""
        self.columns.end += 1

    def prepare_step(self) -> None:
        """Ensure that a column is free for the next step."""
        self._make_room(before=0, after=1)

    def remove(self, row: int) -> int:
        """Free a row, move the last row to its place, and return the place that the moved row had."""
        at = self.columns
        last = at.rows - 1
        if row != last:
            begin = self.starts[last]
            for layer in filter(lambda slot: slot.is_initialized, self.slots):
                layer.k[row, :, begin : at.end] = layer.k[last, :, begin : at.end]
                layer.v[row, :, begin : at.end] = layer.v[last, :, begin : at.end]
            self.starts[row] = self.starts[last]
        self.starts.pop()
        at.rows = last
        at.start = min(self.starts, default=0)
        return last

    def mask(self, device: torch.device) -> Tensor:
        """Return the 2-D attention mask of the next step, [rows, columns in use + 1]."""
        at = self.columns
        columns = torch.arange(at.start, at.end + 1)
        return (columns[None, :] >= torch.tensor(self.starts)[:, None]).to(device)

    def _make_room(self, *, before: int, after: int) -> None:
        at = self.columns
        shift = max(0, before - at.end)
        need = at.end + shift + after
        if need > at.capacity and at.start > 0 and before <= at.end - at.start:
            # Columns that only ended rows used are reused before anything grows.
            shift = -at.start
            need = at.end + shift + after
        capacity = at.capacity
        if need > capacity:
            capacity = need + GROWTH
        if shift or capacity != at.capacity:
            for layer in self.slots:
                layer.resize(capacity, shift)
            at.start, at.end, at.capacity = at.start + shift, at.end + shift, capacity
            self.starts = [start + shift for start in self.starts]
