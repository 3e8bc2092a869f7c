"""Choose the kind of memory that a model's rows run in, from its own cache and by trial."""

from __future__ import annotations

import logging

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from personascope.engines._transformers._memory import (
    KeysMemory,
    Memory,
    NoMemory,
    StateMemory,
    UncountedStateMemory,
)
from personascope.engines._transformers._taps import ForwardHooks
from personascope.engines._transformers._trial import fits
from personascope.models import LayerStack

log = logging.getLogger(__name__)

AnyMemory = KeysMemory | StateMemory | NoMemory


class ModelMemory:
    """Kind of memory that a model's rows run in.

    The kinds that the model's own cache allows are tried on a few tokens, fastest first. The first one that
    reproduces the states of a plain pass is used.

    Attributes:
        kind: Class of the memory.
        keys: Whether the model keeps only each layer's keys and values, which can be cut by token.
        keeps: Whether the model keeps anything; if not, every step passes whole sequences.
        positions: Whether tokens after cached ones are given positions, counted from 0.
    """

    def __init__(self, model: PreTrainedModel, stack: LayerStack, device: torch.device) -> None:
        """Determine the kind; the hooks of the engine need not be attached."""
        self._config = model.config.get_text_config(decoder=True)
        possible = self._possible(model, stack)
        self.kind: type[AnyMemory] = next(
            (kind for kind in possible if self._fits(kind, stack, device)), NoMemory
        )
        if self.kind is NoMemory:
            log.warning("%s has no cache to go on from: every token passes anew", type(model).__name__)
        self.keys = self.kind is KeysMemory
        self.keeps = self.kind is not NoMemory
        self.positions = self.kind in (KeysMemory, StateMemory) and stack.call.positions

    def _possible(self, model: PreTrainedModel, stack: LayerStack) -> list[type[AnyMemory]]:
        """Return the kinds that the model's own cache allows, fastest first."""
        supported = getattr(model, "_supports_default_dynamic_cache", lambda: True)
        if stack.call.cache is None or not supported():
            return []
        try:
            layers = self.new_cache().layers
        except (KeyError, ValueError, AttributeError):  # An older Transformers, with a cache for each family.
            return []
        kinds: list[type[AnyMemory]] = []
        plain = (DynamicLayer, DynamicSlidingWindowLayer)
        recurrent = bool(getattr(model, "_is_stateful", False))
        if all(type(layer) in plain or _is_empty(layer) for layer in layers) and not recurrent:
            kinds += [KeysMemory] if stack.call.mask and stack.call.positions else []
        if all(hasattr(layer, "reorder_cache") for layer in layers):
            kinds += [StateMemory] if stack.call.positions else []
            kinds += [UncountedStateMemory]
        return kinds

    def new_cache(self) -> DynamicCache:
        """Return an empty cache of the form that the model's layers need."""
        return DynamicCache(config=self._config)

    def reading_cache(self, n_parts: int) -> DynamicCache | None:
        """Return an empty cache for a sequence that is read in parts; None if no cache is needed."""
        if self.keys:
            # Without the config no layer drops tokens outside its window, so the end can be cropped later.
            return DynamicCache()
        return None if n_parts == 1 else self.new_cache()

    def start(
        self, stack: LayerStack, taps: ForwardHooks, budget: int, device: torch.device, slots: int
    ) -> Memory:
        """Return a memory without rows, for at most ``slots`` of them."""
        return self._start(self.kind, stack, taps, budget, device, slots)

    def _start(
        self,
        kind: type[AnyMemory],
        stack: LayerStack,
        taps: ForwardHooks,
        budget: int,
        device: torch.device,
        slots: int,
    ) -> AnyMemory:
        if kind is KeysMemory:
            return KeysMemory(stack, taps, budget, device, slots)
        new_cache = _no_cache if kind is NoMemory else self.new_cache
        return kind(stack, taps, budget, device, new_cache)  # pyright: ignore[reportArgumentType]

    def _fits(self, kind: type[AnyMemory], stack: LayerStack, device: torch.device) -> bool:
        def start(n_rows: int) -> Memory:
            return self._start(kind, stack, ForwardHooks(()), 1 << 20, device, n_rows)

        return fits(start, stack, self._config.vocab_size, device, together=kind is KeysMemory)


def _no_cache() -> None:
    return None


def _is_empty(layer: object) -> bool:
    """Return whether a cache layer keeps nothing, because its block reads an earlier layer's keys."""
    return type(layer).__name__ == "DummyLayer"
