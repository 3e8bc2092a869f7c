"""The layer stack: which module is which, and that layer l is what the method calls layer l."""

import pytest
import torch
import transformers
from torch import Tensor

from personascope.errors import ModelError
from personascope.models import LayerStack, block_output, layer_stack, replace_block_output
from tiny import tiny_models

FAMILIES = list(tiny_models())
IDS = torch.tensor([[7, 21, 5, 90, 33, 12]])


def residual_streams(stack: LayerStack) -> tuple[list[Tensor], Tensor]:
    """Return what each block gave, and the backbone's last hidden state."""
    seen: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _m, _i, output: seen.append(block_output(output)))
        for block in stack.blocks
    ]
    with torch.inference_mode():
        last = stack.backbone(input_ids=IDS, use_cache=False).last_hidden_state
    for handle in handles:
        handle.remove()
    return seen, last


@pytest.mark.parametrize("name", FAMILIES)
def test_layer_l_is_the_residual_stream_after_block_l(name: str) -> None:
    model = tiny_models()[name]()
    stack = layer_stack(model)
    with torch.inference_mode():
        theirs = model(input_ids=IDS, output_hidden_states=True).hidden_states
    streams, last = residual_streams(stack)
    assert len(streams) == stack.n_layers == len(theirs) - 1
    for index in range(stack.n_layers - 1):
        assert torch.equal(streams[index], theirs[index + 1]), f"layer {index}"
        assert not torch.equal(streams[index], theirs[index])
    # The last block's output comes before the final norm, the last of Transformers' states after it.
    assert not torch.equal(streams[-1], theirs[-1])
    assert torch.equal(last, theirs[-1])
    norms = [
        module
        for key, module in stack.backbone.named_children()
        if "norm" in type(module).__name__.lower() and "embed" not in key
    ]
    with torch.inference_mode():
        assert any(torch.equal(norm(streams[-1]), theirs[-1]) for norm in norms)
        # And it is all there is in that last block: the next one down changes the result.
        assert not any(torch.equal(norm(streams[-2]), theirs[-1]) for norm in norms)


PLAIN_HEADS = {"gemma2": False, "cohere": False, "granite": False}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_the_stack_are_those_of_the_model(name: str) -> None:
    model = tiny_models()[name]()
    stack = layer_stack(model)
    assert stack.head_is_plain is PLAIN_HEADS.get(name, True)
    with torch.inference_mode():
        expected = model(input_ids=IDS).logits
        hidden = stack.backbone(input_ids=IDS, use_cache=False).last_hidden_state
        assert torch.equal(stack.logits(hidden), expected)
        torch.testing.assert_close(stack.logits(hidden[:, -1:]), expected[:, -1:])


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gemma3_vision", "gpt2"])
def test_the_backbone_continues_from_a_cache(name: str) -> None:
    model = tiny_models()[name]()
    stack = layer_stack(model)
    cache = transformers.DynamicCache(config=model.config.get_text_config(decoder=True))
    with torch.inference_mode():
        whole = stack.backbone(input_ids=IDS, use_cache=False).last_hidden_state
        first = stack.backbone(
            input_ids=IDS[:, :4],
            attention_mask=torch.ones(1, 4, dtype=torch.long),
            position_ids=torch.arange(4)[None],
            past_key_values=cache,
            use_cache=True,
        )
        rest = stack.backbone(
            input_ids=IDS[:, 4:],
            attention_mask=torch.ones(1, 6, dtype=torch.long),
            position_ids=torch.arange(4, 6)[None],
            past_key_values=first.past_key_values,
            use_cache=True,
        )
    torch.testing.assert_close(rest.last_hidden_state, whole[:, 4:], rtol=1e-4, atol=1e-4)


def test_a_change_of_a_blocks_output_reaches_the_logits() -> None:
    model = tiny_models()["gpt_neox"]()
    stack = layer_stack(model)
    push = torch.randn(stack.d_model)
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
        handle = stack.blocks[1].register_forward_hook(
            lambda _m, _i, output: replace_block_output(output, block_output(output) + push)
        )
        after = model(input_ids=IDS).logits
        handle.remove()
        again = model(input_ids=IDS).logits
    assert not torch.allclose(before, after)
    assert torch.equal(before, again)


def test_finding_the_stack_leaves_no_hook_and_no_second_copy_of_a_weight() -> None:
    model = tiny_models()["gemma2"]()
    parameters = len(list(model.parameters()))
    stack = layer_stack(model)
    assert len(list(model.parameters())) == parameters
    assert not any(module._forward_hooks for module in model.modules())
    # A hook on the model does not see the replay of its head.
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        stack.logits(torch.zeros(1, 1, stack.d_model))
    assert not calls


def test_a_later_change_of_the_head_is_seen() -> None:
    model = tiny_models()["granite"]()
    stack = layer_stack(model)
    hidden = torch.randn(1, 3, stack.d_model)
    with torch.inference_mode():
        before = stack.logits(hidden)
        model.lm_head.weight.mul_(2.0)
        torch.testing.assert_close(stack.logits(hidden), 2 * before)


def test_the_vision_tower_of_the_same_depth_is_not_the_stack() -> None:
    stack = layer_stack(tiny_models()["gemma3_vision"]())
    assert "vision" not in stack.path
    assert stack.path.endswith("language_model.layers")


def test_half_precision_models_have_the_same_stack() -> None:
    model = tiny_models()["gemma2"]().to(torch.bfloat16)
    stack = layer_stack(model)
    with torch.inference_mode():
        hidden = stack.backbone(input_ids=IDS, use_cache=False).last_hidden_state
        assert torch.equal(stack.logits(hidden).float(), model(input_ids=IDS).logits.float())


def test_block_outputs_of_both_forms() -> None:
    hidden, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert block_output(hidden) is hidden
    assert block_output((hidden, "cache")) is hidden
    assert replace_block_output(hidden, other) is other
    assert replace_block_output((hidden, "cache"), other) == (other, "cache")
    with pytest.raises(ModelError, match="dict"):
        block_output({"hidden": hidden})
    with pytest.raises(ModelError, match="NoneType"):
        replace_block_output(None, other)


def test_an_encoder_decoder_is_refused() -> None:
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    with pytest.raises(ModelError, match="not a decoder"):
        layer_stack(transformers.T5ForConditionalGeneration(config).eval())


def test_a_model_without_a_head_is_refused() -> None:
    config = tiny_models()["llama"]().config
    with pytest.raises(ModelError, match="LlamaModel"):
        layer_stack(transformers.LlamaModel(config).eval())


def test_a_stack_that_does_not_run_in_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_models()["llama"]()
    monkeypatch.setattr(model.config, "num_hidden_layers", 3)
    with pytest.raises(ModelError, match=r"expected one list of 3 blocks of width 48.*found none"):
        layer_stack(model)
