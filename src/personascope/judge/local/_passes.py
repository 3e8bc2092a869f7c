"""Pass prompts through the judge's model, with the beginning that they share passed only once.

Everything that a rubric says stands before the material, so about half of a judge's prompt is the same for
every item. Its keys and values are kept, and only what follows is computed for each item.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from personascope.models import LoadedModel

log = logging.getLogger(__name__)

MIN_SHARED = 16
"""Minimum length in tokens of a beginning that is kept."""
MAX_KEPT = 4
"""Maximum number of beginnings that are kept at the same time."""

KeysValues = list[tuple[Tensor, Tensor] | None]
"""Keys and values of each layer, [1, key heads, tokens, head width]; None where a layer keeps none."""


class PromptPasses:
    """Passes of one model over prompts, which compute a shared beginning once.

    Whether the model can go on from kept keys and values is tried at the first prompt: its state must be
    that of a plain pass. Otherwise every prompt passes whole.

    Args:
        loaded: Model to run.

    Attributes:
        tokens: Number of tokens that went through the model, padding left out.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """Keep nothing yet."""
        self._stack, self._device = loaded.stack, loaded.device
        self._able = None if _keeps_keys(loaded) else False
        self._kept: OrderedDict[tuple[int, ...], KeysValues] = OrderedDict()
        self.tokens = 0

    @torch.inference_mode()
    def last_states(self, rows: Sequence[Sequence[int]], shared: Sequence[int], keep: int) -> Tensor:
        """Return the states after the final norm at the last ``keep`` positions, [rows, keep, d].

        Args:
            rows: Token ids of each prompt.
            shared: Tokens that all rows begin with; empty for none.
            keep: Number of positions.
        """
        # The positions that are read must be computed for each row.
        head = tuple(shared)[: min(map(len, rows)) - keep]
        if len(head) < MIN_SHARED or self._able is False:
            return self._pass(rows, keep)
        if self._able is None:
            self._able = self._agrees(rows[0], head, keep)
            if not self._able:
                log.warning("the judge's model cannot go on from kept tokens: every prompt passes whole")
                return self._pass(rows, keep)
        return self._after(rows, head, keep)

    def _pass(self, rows: Sequence[Sequence[int]], keep: int) -> Tensor:
        self.tokens += sum(map(len, rows))
        return self._run(rows, keep, None, 0)

    def _after(self, rows: Sequence[Sequence[int]], head: tuple[int, ...], keep: int) -> Tensor:
        kept = self._keys_values(head)
        cache = DynamicCache()
        for index, pair in enumerate(kept):
            if pair is not None:
                keys, values = (part.expand(len(rows), -1, -1, -1) for part in pair)
                cache.update(keys, values, index)
        rests = [row[len(head) :] for row in rows]
        self.tokens += sum(map(len, rests))
        return self._run(rests, keep, cache, len(head))

    def _run(
        self, rows: Sequence[Sequence[int]], keep: int, cache: DynamicCache | None, before: int
    ) -> Tensor:
        lengths = [len(row) for row in rows]
        width = max(lengths)
        # Pad on the right, where a causal model cannot see it, so that positions do not change.
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self._device)
        positions = None
        if cache is not None and self._stack.call.positions:
            positions = torch.arange(before, before + width, device=self._device).expand(len(rows), -1)
        hidden = self._stack.forward(ids, cache=cache, positions=positions)
        places = torch.tensor([list(range(n - keep, n)) for n in lengths], device=hidden.device)
        return hidden[torch.arange(len(rows), device=hidden.device)[:, None], places]

    def _keys_values(self, head: tuple[int, ...]) -> KeysValues:
        """Return the keys and values of a beginning, which is passed unless it is kept."""
        if head not in self._kept:
            # Without a config no layer of the cache drops the tokens outside its window.
            cache = DynamicCache()
            self._stack.forward(torch.tensor([head], device=self._device), cache=cache)
            self.tokens += len(head)
            self._kept[head] = [_pair(layer) for layer in cache.layers]
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(head)
        return self._kept[head]

    def _agrees(self, row: Sequence[int], head: tuple[int, ...], keep: int) -> bool:
        """Return whether a prompt after its kept beginning gets the states of a plain pass."""
        whole = self._pass([row], keep).float()
        try:
            mine = self._after([row], head, keep).float()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model may raise anything on a cache that is not its own
            log.debug("kept tokens do not fit the model: %s: %s", type(error).__name__, error)
            return False
        tolerance = 1e-3 if next(self._stack.backbone.parameters()).dtype == torch.float32 else 0.1
        return bool((mine - whole).norm() <= tolerance * whole.norm())


def _keeps_keys(loaded: LoadedModel) -> bool:
    """Return whether the model's own cache holds nothing but keys and values, as far as it says."""
    supported = getattr(loaded.model, "_supports_default_dynamic_cache", lambda: True)
    if loaded.stack.call.cache is None or not supported() or getattr(loaded.model, "_is_stateful", False):
        return False
    try:
        layers = DynamicCache(config=loaded.model.config.get_text_config(decoder=True)).layers
    except (KeyError, ValueError, AttributeError):  # an older Transformers, with a cache for each family
        return False
    # A layer that reads the keys of an earlier one is a DummyLayer.
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in plain or type(layer).__name__ == "DummyLayer" for layer in layers)


def _pair(layer: object) -> tuple[Tensor, Tensor] | None:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return None if keys is None or values is None else (keys, values)
