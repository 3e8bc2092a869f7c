"""Decode attention for grouped queries without copying the keys.

With an attention mask, Transformers' ``sdpa`` repeats the key and value heads for every query head,
which for one new token is most of the memory traffic of the step. Here the query heads that share a key
head are treated as queries of one longer sequence, with the same result and no copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "personascope_sdpa"


def grouped_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend one new token per row to its keys; pass any other call to Transformers' own ``sdpa``."""
    groups = query.shape[1] // key.shape[1]
    biased = kwargs.get("position_bias") is not None or kwargs.get("cache") is not None
    per_head = attention_mask is not None and attention_mask.shape[1] != 1
    if query.shape[2] != 1 or groups == 1 or dropout or biased or per_head:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    rows, heads, _, width = query.shape
    stacked = query.reshape(rows, key.shape[1], groups, width)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
    out = torch.nn.functional.scaled_dot_product_attention(
        stacked, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.reshape(rows, 1, heads, value.shape[-1]), None


def use_grouped_attention(model: PreTrainedModel) -> bool:
    """Switch a model that uses ``sdpa`` to the grouped form; return whether it was switched."""
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return False
    AttentionInterface.register(NAME, grouped_sdpa)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return True
