"""Following a conversation message by message, and reading no more blocks than are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personascope.chat import ChatFormat, Message
from personascope.engines import Capture, Probe, TransformersEngine, TurnActivations
from personascope.errors import EngineError
from tiny import load_tiny, tiny_models

TALK = (
    Message("user", "What is rain?"),
    Message("assistant", "Water that falls. The keeper of the lighthouse writes of it every evening."),
    Message("user", "And the sea?"),
    Message("assistant", "It waits below, and counts the waves."),
    Message("user", "Thank you."),
    Message("assistant", "Come again at dawn."),
)


def same(a: list[TurnActivations], b: list[TurnActivations]) -> None:
    assert [(x.index, x.role, x.token_count) for x in a] == [(x.index, x.role, x.token_count) for x in b]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.pooled, y.pooled, rtol=1e-3, atol=1e-4)  # pyright: ignore
        for name in y.projections:
            np.testing.assert_allclose(x.projections[name], y.projections[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(tiny_models()))
def test_message_by_message_equals_the_whole(name: str) -> None:
    loaded = load_tiny(name)
    engine = TransformersEngine(loaded, chat=loaded.chat or ChatFormat.transcript(loaded.tokenizer))
    probes = (Probe("p", 2, np.random.default_rng(0).standard_normal(loaded.d_model).astype(np.float32)),)
    follower = engine.follow(capture=Capture((0, 3)), probes=probes)
    read: dict[int, TurnActivations] = {}
    for start in range(0, len(TALK), 2):
        # Qwen and Phi write the newest reply in another way than the earlier ones, which are read again.
        read |= {turn.index: turn for turn in follower.extend(*TALK[start : start + 2])}
    whole = engine.observe(TALK, capture=Capture((0, 3)), probes=probes)
    same([read[index] for index in sorted(read)], whole)
    same(list(follower.turns), whole)
    length = len(engine._chat().render(TALK, add_generation_prompt=False))
    assert length <= follower.tokens_fed < 2 * length


def test_every_token_is_fed_once() -> None:
    engine = TransformersEngine(load_tiny("llama"))
    follower = engine.follow(capture=Capture((1,)))
    for length in range(2, len(TALK) + 1, 2):
        follower.read(TALK[:length])
    rendered = engine.chat.render_with_spans(TALK)  # pyright: ignore[reportOptionalMemberAccess]
    assert follower.tokens_fed == len(rendered.token_ids)


def test_another_conversation_is_read_from_its_beginning() -> None:
    engine = TransformersEngine(load_tiny("llama"))
    follower = engine.follow(capture=Capture((1,)))
    follower.read(TALK[:4])
    other = (Message("user", "What is rain?"), Message("assistant", "Nothing."))
    same(follower.read(other), engine.observe(other, capture=Capture((1,))))
    with pytest.raises(EngineError, match="empty prompt"):
        follower.read(())
    same(follower.read(TALK), engine.observe(TALK, capture=Capture((1,))))


def test_a_pass_that_breaks_off_is_not_gone_on_from() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    follower = engine.follow(capture=Capture((1,)))
    follower.read(TALK[:2])
    broken = loaded.stack.blocks[1].register_forward_pre_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        follower.read(TALK[:4])
    broken.remove()
    assert follower.turns == ()
    same(follower.read(TALK), engine.observe(TALK, capture=Capture((1,))))


def test_blocks_above_the_last_that_is_read_do_not_run() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    assert engine._memory.keys  # found by passes of its own, before any is counted
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(loaded.stack.blocks)
    ]
    try:
        short = engine.observe(TALK, capture=Capture((1,)))
        assert max(ran) == 1
        ran.clear()
        whole = engine.observe(TALK, capture=Capture())
        assert max(ran) == loaded.n_layers - 1
    finally:
        for handle in handles:
            handle.remove()
    for a, b in zip(short, whole, strict=True):
        np.testing.assert_array_equal(a.pooled[0], b.pooled[1])  # pyright: ignore[reportOptionalSubscript]
    assert torch.is_grad_enabled()
