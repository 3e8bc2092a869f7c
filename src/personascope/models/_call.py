"""Arguments of a backbone's call, found by its signature because their names differ between models.

The cache of earlier tokens is ``past_key_values`` in most of Transformers 5, ``cache`` from 5.24 on, and
``cache_params`` in the Mamba family. Some models take no positions, some no mask.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import Cache

from personascope.errors import ModelError

_CACHES = ("cache", "past_key_values", "cache_params")
# Arguments of older models instead of a cache: tuples and lists that this project neither makes nor reads.
_OTHER_MEMORY = ("mems", "state", "past_buckets_states", "past")


@dataclass(frozen=True, slots=True)
class CallShape:
    """Arguments that a backbone takes.

    Attributes:
        ids: Whether it takes token ids.
        cache: Name of the argument for the cache of earlier tokens; None if it has none of the known names.
        mask: Whether it takes an attention mask.
        positions: Whether it takes positions.
        use_cache: Whether it takes ``use_cache``, which switches the cache off.
    """

    ids: bool
    cache: str | None
    mask: bool
    positions: bool
    use_cache: bool

    @classmethod
    def of(cls, module: nn.Module) -> CallShape:
        """Read the signature of a module's forward."""
        names = _names(module)
        return cls(
            ids="input_ids" in names,
            cache=next((name for name in _CACHES if name in names), None),
            mask="attention_mask" in names,
            positions="position_ids" in names,
            use_cache="use_cache" in names,
        )

    def arguments(
        self, *, cache: Cache | None = None, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the keyword arguments of a call besides the tokens; without a cache none is kept.

        Raises:
            ModelError: If the backbone takes no such argument.
        """
        given: dict[str, Any] = {"use_cache": cache is not None} if self.use_cache else {}
        for name, value in (
            (self.cache, cache),
            ("attention_mask" if self.mask else None, mask),
            ("position_ids" if self.positions else None, positions),
        ):
            if value is None:
                continue
            if name is None:
                raise ModelError(
                    f"the backbone takes no argument for a {type(value).__name__} that its call needs",
                    hint="report the model's name: it must be run in another way",
                )
            given[name] = value
        return given


@dataclass(frozen=True, slots=True)
class BackboneCall:
    """Arguments that a backbone was called with.

    Attributes:
        tokens: Token ids [rows, tokens], or embeddings [rows, tokens, d].
        mask: 2-D attention mask over earlier and new tokens, or None.
        cache: Cache of earlier tokens, or None.
    """

    tokens: Tensor
    mask: Tensor | None
    cache: Cache | None

    @classmethod
    def of(cls, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> BackboneCall:
        """Read the arguments of a call, whether positional or by name.

        Raises:
            ModelError: If there are no tokens, or earlier tokens are passed in a form that cannot be read.
        """
        given = dict(zip(_names(module), inputs, strict=False)) | options
        given = {name: value for name, value in given.items() if value is not None}
        tokens = given.get("input_ids", given.get("inputs_embeds"))
        if not isinstance(tokens, Tensor):
            raise ModelError(
                f"the model was called with {', '.join(given) or 'nothing'}",
                hint="pass input_ids or inputs_embeds",
            )
        known = next((given[name] for name in _CACHES if name in given), None)
        for name, value in given.items():
            other = isinstance(value, Cache) and name not in _CACHES
            if other or name in _OTHER_MEMORY or (value is known and not isinstance(value, Cache)):
                raise ModelError(
                    f"{name} ({type(value).__name__}) holds earlier tokens in a form that cannot be read",
                    hint="call the model without it; the engine of this project steers such models too",
                )
        mask = given.get("attention_mask")
        return cls(tokens, mask if isinstance(mask, Tensor) and mask.ndim == 2 else None, known)

    @property
    def past(self) -> int | None:
        """Number of earlier tokens, padding included; None if the cache holds some but has no count."""
        if self.cache is None:
            return 0
        layers = getattr(self.cache, "layers", None)
        if layers is None:
            return int(self.cache.get_seq_length())
        # The first layer alone is not enough: it may be a recurrence whose state the model keeps elsewhere.
        counts = [int(layer.get_seq_length()) for layer in layers if hasattr(layer, "get_seq_length")]
        if counts or not layers:
            return max(counts, default=0)
        return None if self.cache.has_previous_state() else 0


def _names(module: nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)
