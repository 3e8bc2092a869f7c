"""Memories: what a model keeps of earlier tokens, and how running rows are stored in it.

Most models keep only each layer's keys and values, so that rows of different lengths can share one buffer
(`KeysMemory`). Models with recurrent layers, indexers or caches of their own keep state that cannot be cut
by token or shifted by column. Their rows run in groups of equal length, unpadded: in the library's own
cache if rows can be selected from it (`StateMemory`), else by passing each row through the model anew at
every step (`NoMemory`), which is slow but always correct.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.engines._transformers._cache import SlotCache
from personascope.engines._transformers._prefill import Entry, Prefilled, PromptBatches, prefill
from personascope.engines._transformers._rows import Queued, Row
from personascope.engines._transformers._taps import ForwardHooks
from personascope.models import LayerStack


class Memory(Protocol):
    """Interface of a memory of the running rows, in which row i of a pass is row i of the batch.

    Attributes:
        whole: Whether every pass holds whole sequences, the prompt included.
    """

    whole: bool

    def choose(self, waiting: deque[Queued], free: int, running: int) -> list[Queued]:
        """Take the requests that can start now out of the queue."""
        ...

    def prefill(self, entries: Sequence[Entry]) -> Iterator[Prefilled]:
        """Pass prompts through the model."""
        ...

    def admit(self, part: Prefilled, entries: Sequence[int], rows: Sequence[Row]) -> None:
        """Start new ``rows``, whose prompts are ``entries`` (indices) of a prefilled part."""
        ...

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Feed each row's newest token; return the state after the final norm, [rows, 1, d]."""
        ...

    def finish_step(self) -> None:
        """Count the tokens of the step, also if it was stopped after the last layer that is read."""
        ...

    def remove(self, index: int) -> int:
        """End a row, move the last row to its place, and return the place that the moved row had."""
        ...


class KeysMemory:
    """Rows of any length in one buffer of keys and values per layer."""

    whole = False

    def __init__(
        self, stack: LayerStack, taps: ForwardHooks, budget: int, device: torch.device, slots: int
    ) -> None:
        """Begin without rows."""
        self.stack, self.taps, self.budget, self.device = stack, taps, budget, device
        self.cache = SlotCache(stack.n_layers, slots)

    def choose(self, waiting: deque[Queued], free: int, running: int) -> list[Queued]:
        """Take as many requests as there is room for."""
        del running
        return [waiting.popleft() for _ in range(min(free, len(waiting)))]

    def prefill(self, entries: Sequence[Entry]) -> Iterator[Prefilled]:
        """Pass prompts, and prefixes that they share, through the model."""
        return prefill(self.stack, self.taps, entries, self.budget, self.device)

    def admit(self, part: Prefilled, entries: Sequence[int], rows: Sequence[Row]) -> None:
        """Copy the prompts' keys and values into the buffer."""
        del rows
        assert part.cache is not None
        self.cache.admit(part.cache, [part.spans[entry] for entry in entries])

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Feed each row's newest token after the row's own columns."""
        self.cache.prepare_step()
        ids = torch.tensor([[row.tokens[-1]] for row in rows], device=self.device)
        places = torch.tensor([[row.position] for row in rows], device=self.device)
        return self.stack.forward(ids, cache=self.cache, mask=self.cache.mask(self.device), positions=places)

    def finish_step(self) -> None:
        """Count the column that was written."""
        self.cache.advance()

    def remove(self, index: int) -> int:
        """Free the row's place in the buffer, and return the place that the moved row had."""
        return self.cache.remove(index)


class _OneLength:
    """Rows of equal length, so that nothing is padded."""

    def __init__(
        self,
        stack: LayerStack,
        taps: ForwardHooks,
        budget: int,
        device: torch.device,
        new_cache: Callable[[], DynamicCache | None],
    ) -> None:
        self.stack, self.taps, self.budget, self.device = stack, taps, budget, device
        self.new_cache = new_cache

    def choose(self, waiting: deque[Queued], free: int, running: int) -> list[Queued]:
        """Take a group of requests of the most common prompt length, once the last group has ended."""
        if running or not waiting:
            return []
        lengths: dict[int, int] = {}
        for queued in waiting:
            lengths[len(queued.prompt)] = lengths.get(len(queued.prompt), 0) + 1
        length = max(lengths, key=lambda n: lengths[n])
        most = max(1, min(free, self.budget // length))
        chosen: list[Queued] = []
        left: list[Queued] = []
        for queued in waiting:
            here = len(chosen) < most and len(queued.prompt) == length
            (chosen if here else left).append(queued)
        waiting.clear()
        waiting.extend(left)
        return chosen

    def prefill(self, entries: Sequence[Entry]) -> Iterator[Prefilled]:
        """Pass prompts of one length through the model together."""
        batches = PromptBatches(self.stack, self.taps, 1 << 62, self.device, new_cache=self.new_cache)
        return batches([(entry, None) for entry in entries], None)


class StateMemory(_OneLength):
    """Rows of equal length in the library's own cache, whatever its layers keep."""

    whole = False
    positions = True

    def admit(self, part: Prefilled, entries: Sequence[int], rows: Sequence[Row]) -> None:
        """Keep the cache of the prompts, from which each row is selected at the next step."""
        del rows
        assert part.cache is not None
        self.cache = part.cache
        self._order = list(entries)
        self._chosen = self._order != list(range(len(part.prompts)))

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Feed each row's newest token to its own state."""
        if self._chosen:
            order = torch.tensor(self._order, device=self.device)
            self.cache.reorder_cache(order)  # pyright: ignore[reportArgumentType]
            self._order, self._chosen = list(range(len(rows))), False
        ids = torch.tensor([[row.tokens[-1]] for row in rows], device=self.device)
        places = torch.tensor([[row.position] for row in rows], device=self.device)
        return self.stack.forward(ids, cache=self.cache, positions=places if self.positions else None)

    def finish_step(self) -> None:
        """Do nothing, because the cache counts by itself."""

    def remove(self, index: int) -> int:
        """Mark the row for removal from the cache at the next step."""
        self._order[index] = self._order[-1]
        self._order.pop()
        self._chosen = True
        return len(self._order)


class NoMemory(_OneLength):
    """Rows of equal length that pass through the model as a whole at every step."""

    whole = True

    def admit(self, part: Prefilled, entries: Sequence[int], rows: Sequence[Row]) -> None:
        """Store the number of rows."""
        del part, entries
        self._rows = len(rows)

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Pass each row's prompt and response through the model."""
        ids = torch.tensor([[*row.queued.prompt, *row.tokens] for row in rows], device=self.device)
        if self.taps.editor is not None:
            places = torch.arange(ids.shape[1]).expand(ids.shape)
            # Earlier tokens are already counted.
            self.taps.editor.at(places, places == ids.shape[1] - 1)
        return self.stack.forward(ids)[:, -1:]

    def finish_step(self) -> None:
        """Do nothing, because nothing is kept."""

    def remove(self, index: int) -> int:
        """Forget the row."""
        del index
        self._rows -= 1
        return self._rows


class UncountedStateMemory(StateMemory):
    """A `StateMemory` for a model that counts positions by itself, not from 0."""

    positions = False
