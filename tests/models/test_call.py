"""Arguments of a backbone's call, found whatever their order and names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from personascope.errors import ModelError
from personascope.models import BackboneCall
from personascope.models._call import CallShape
from tiny_configs import tiny_config


class Newest(nn.Module):
    def forward(
        self, input_ids: Tensor, attention_mask: Any = None, cache: Any = None, **options: Any
    ) -> None: ...


class Older(nn.Module):
    def forward(
        self,
        input_ids: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        use_cache: Any = None,
    ) -> None: ...


class Oldest(nn.Module):
    def forward(self, input_ids: Tensor, mems: Any = None) -> None: ...


IDS = torch.tensor([[5, 6, 7]])


def filled(config: Any = None) -> DynamicCache:
    cache = DynamicCache(config=config)
    cache.update(torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 4, 8), 0)
    return cache


def test_the_names_of_arguments_are_read_from_the_signature() -> None:
    assert CallShape.of(Newest()) == CallShape(
        ids=True, cache="cache", mask=True, positions=False, use_cache=False
    )
    assert CallShape.of(Older()) == CallShape(
        ids=True, cache="past_key_values", mask=False, positions=True, use_cache=True
    )
    assert CallShape.of(Oldest()).cache is None
    cache = DynamicCache()
    assert CallShape.of(Newest()).arguments(cache=cache) == {"cache": cache}
    assert CallShape.of(Older()).arguments() == {"use_cache": False}
    with pytest.raises(ModelError, match="no argument for a DynamicCache"):
        CallShape.of(Oldest()).arguments(cache=cache)


@pytest.mark.parametrize(
    ("module", "inputs", "options", "past"),
    [
        (Newest(), (IDS,), {}, 0),
        (Newest(), (IDS, torch.ones(1, 3)), {"cache": DynamicCache()}, 0),
        (Newest(), (IDS, None, filled()), {}, 4),
        # The name before 5.24, which the newest releases still take.
        (Newest(), (), {"input_ids": IDS, "past_key_values": filled()}, 4),
        (Older(), (IDS, None, filled()), {"use_cache": True}, 4),
        (Older(), (), {"inputs_embeds": torch.zeros(1, 3, 8)}, 0),
    ],
)
def test_tokens_and_what_came_before_them(
    module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], past: int
) -> None:
    call = BackboneCall.of(module, inputs, options)
    assert call.tokens.shape[:2] == (1, 3)
    assert call.past == past


def test_a_cache_of_recurrent_states_says_whether_something_came_before() -> None:
    cache = DynamicCache(config=tiny_config("mamba"))
    if not hasattr(cache, "update_conv_state"):
        pytest.skip("an older Transformers, whose Mamba has a cache of its own")
    assert BackboneCall.of(Newest(), (IDS,), {"cache": cache}).past == 0
    for layer in range(len(cache.layers)):
        cache.update_conv_state(torch.zeros(1, 8, 4), layer)
    assert BackboneCall.of(Newest(), (IDS,), {"cache": cache}).past is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mems": [torch.zeros(1)]}, r"mems \(list\)"),
        ({"memory_of_tokens": filled()}, r"memory_of_tokens \(DynamicCache\)"),
        ({"past_key_values": ((torch.zeros(1),),)}, r"past_key_values \(tuple\)"),
    ],
)
def test_a_memory_of_another_form_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        BackboneCall.of(Oldest(), (IDS,), options)
    with pytest.raises(ModelError, match="called with attention_mask"):
        BackboneCall.of(Newest(), (), {"attention_mask": torch.ones(1, 3)})
