"""Sample tokens in vLLM as the Transformers engine does, with separate random numbers for each request.

This is a logits processor, vLLM's extension point. It runs after the temperature and instead of top_p. It
draws from the same nucleus without sorting the vocabulary, and masks every token but the drawn one. The
draws of a request then depend neither on the batch nor on the engine.
"""

# pyright: reportMissingImports=false
# pyright: reportUntypedBaseClass=false
# vLLM is not installed where types are checked.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

from personascope.engines._sampling import draw, uniforms
from personascope.engines._vllm.request._spec import DRAW, parse_spec


class _Row:
    """A request whose tokens this processor draws."""

    def __init__(self, seed: int, top_p: float, count: int, tokens: Sequence[int]) -> None:
        self.top_p = top_p
        self.uniform = uniforms(seed, count)
        self.tokens = tokens


class Draw(LogitsProcessor):
    """Logits processor that draws the tokens of requests that ask for it; vLLM samples the others."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a malformed request in the front end, before it reaches the engine.

        Raises:
            EngineError: If its spec for the plugin is malformed.
            ValueError: If its values for this processor are malformed.
        """
        parse_spec(sampling_params.extra_args)
        asked = (sampling_params.extra_args or {}).get(DRAW)
        if asked is None:
            return
        if not isinstance(asked, dict) or set(asked) != {"seed", "top_p"}:
            raise ValueError(f"{DRAW} is {asked!r}, where seed and top_p are meant")
        if sampling_params.top_p != 1 or sampling_params.top_k > 0 or sampling_params.min_p > 0:
            raise ValueError(f"{DRAW} takes the place of top_p, top_k and min_p; leave those out")

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        """Begin without rows."""
        del vllm_config, is_pin_memory
        self.device = device
        self.rows: dict[int, _Row] = {}
        self._index: torch.Tensor | None = None
        self._ones: torch.Tensor | None = None
        self._top_p: torch.Tensor | None = None
        self._order: list[_Row] = []

    def is_argmax_invariant(self) -> bool:
        """Return True, so that vLLM skips the processor for greedy requests."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Update which request is in which row."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.rows.pop(index, None)
        for index, params, _, tokens in batch_update.added:
            asked = (params.extra_args or {}).get(DRAW)
            if asked is None or params.temperature == 0:
                self.rows.pop(index, None)
            else:
                count = params.max_tokens or 1
                self.rows[index] = _Row(int(asked["seed"]), float(asked["top_p"]), count, tokens)
        for source, target, direction in batch_update.moved:
            one, other = self.rows.pop(source, None), self.rows.pop(target, None)
            if one is not None:
                self.rows[target] = one
            if other is not None and direction == MoveDirectionality.SWAP:
                self.rows[source] = other
        places = sorted(self.rows)
        self._order = [self.rows[place] for place in places]
        self._index = torch.tensor(places, device=self.device)
        self._ones = torch.ones(len(places), device=self.device)
        self._top_p = torch.tensor([row.top_p for row in self._order], device=self.device)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row, and mask all others.

        Args:
            logits: Logits divided by the temperature, [requests, vocabulary]; changed in place.
        """
        if not self._order:
            return logits
        assert self._index is not None and self._ones is not None and self._top_p is not None
        uniform = np.array([row.uniform[len(row.tokens)] for row in self._order])
        whole = len(self._order) == len(logits)
        part = logits if whole else logits.index_select(0, self._index)
        tokens = draw(part, self._ones, self._top_p, torch.from_numpy(uniform).to(self.device))
        if whole:
            logits.fill_(-torch.inf)
        else:
            logits.index_fill_(0, self._index, -torch.inf)
        logits[self._index, tokens] = 0.0
        return logits
