"""A watch on a request: what it sees, an end, and a plan that acts from one token on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from personascope.chat import ChatFormat, Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling, TransformersEngine
from personascope.engines._checks import refuse_watch
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer
from personascope.models import LoadedModel, block_output, replace_block_output
from tiny import load_tiny, tiny_models

TALK = (Message("system", "You are a pirate."), Message("user", "What is rain?"))
LENGTH = Sampling(temperature=0.0, max_new_tokens=9, min_new_tokens=9)


def direction(loaded: LoadedModel, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(loaded.d_model).astype(np.float32)


def request(loaded: LoadedModel, id: str = "r", **changes) -> Request:
    probes = (Probe("axis", 1, direction(loaded, 1)), Probe("late", 3, direction(loaded, 2)))
    return replace(Request(id, TALK, LENGTH, capture=Capture(), probes=probes), **changes)


class Script:
    """A watch that keeps what it sees and answers as told."""

    def __init__(self, answers: Mapping[int, object]) -> None:
        self.answers = answers
        self.seen: list[tuple[int, dict[str, float]]] = []

    def __call__(self, token: int, values: Mapping[str, float]):
        self.seen.append((token, dict(values)))
        return self.answers.get(token)


def one(engine: TransformersEngine, wanted: Request) -> Completion:
    (done,) = engine.run([wanted])
    return done


def teacher(
    loaded: LoadedModel, ids: Sequence[int], prompt: int, edits: Sequence[tuple[Plan, int]]
) -> dict[int, torch.Tensor]:
    """Return the residual stream after each block, steered by hooks of this test from a position on."""
    kept: dict[int, torch.Tensor] = {}

    def hook(layer: int):
        def edit(_module, _inputs, output):
            hidden = block_output(output)
            for plan, start in edits:
                for op in (op for op in plan.ops if op.layer == layer):
                    v = torch.from_numpy(op.direction)
                    changed = hidden.clone()
                    part = hidden[:, start:]
                    if isinstance(op, Steer):
                        changed[:, start:] = part + op.amount * v
                    else:
                        assert isinstance(op, Cap) and op.floor is not None
                        along = part @ v
                        changed[:, start:] = part + (op.floor - along).clamp(min=0)[..., None] * v
                    hidden = changed
            kept[layer] = hidden[0, prompt:].float()
            return replace_block_output(output, hidden)

        return edit

    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(loaded.stack.blocks)]
    try:
        with torch.inference_mode():
            loaded.stack.backbone(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def test_a_watch_sees_every_token_and_changes_nothing() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    watch = Script({})
    plain, watched = one(engine, request(loaded)), one(engine, request(loaded, watch=watch))
    assert watched.token_ids == plain.token_ids and watched.gate is None
    assert np.array_equal(watched.pooled, plain.pooled)  # pyright: ignore[reportArgumentType]
    assert [token for token, _ in watch.seen] == list(range(9))
    for name in ("axis", "late"):
        assert [values[name] for _, values in watch.seen] == pytest.approx(watched.projections[name].tolist())


@pytest.mark.parametrize("at", [0, 4, 8])
def test_a_stop_ends_the_response_after_the_token(at: int) -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    plain, ended = one(engine, request(loaded)), one(engine, request(loaded, watch=Script({at: "stop"})))
    assert ended.finish_reason == "alarm"
    assert ended.token_ids == plain.token_ids[: at + 1] and ended.token_count == at + 1
    assert len(ended.projections["axis"]) == at + 1
    streams = teacher(
        loaded,
        (*loaded.chat.render(TALK), *ended.token_ids),
        ended.prompt_tokens,
        [],  # pyright: ignore
    )
    expected = np.stack([streams[layer].mean(0).numpy() for layer in range(loaded.n_layers)])
    np.testing.assert_allclose(ended.pooled, expected, rtol=1e-4, atol=1e-5)  # pyright: ignore


@pytest.mark.parametrize("name", sorted(tiny_models()))
@pytest.mark.parametrize("own", [False, True])
def test_a_gate_acts_from_the_next_token_on(name: str, own: bool) -> None:
    loaded = load_tiny(name)
    engine = TransformersEngine(loaded, chat=loaded.chat or ChatFormat.transcript(loaded.tokenizer))
    base = Plan((Steer(0, direction(loaded, 5), 0.7),)) if own else None
    gate = Plan((Steer(1, direction(loaded, 3), 4.0), Cap(2, direction(loaded, 4), floor=0.6)))
    before = one(engine, request(loaded, plan=base))
    done = one(engine, request(loaded, plan=base, watch=Script({3: gate})))
    assert done.token_ids[:5] == before.token_ids[:5]  # token 4 was drawn before the gate acted on it
    np.testing.assert_allclose(done.projections["axis"][:4], before.projections["axis"][:4], rtol=1e-5)
    prompt = done.prompt_tokens
    edits = [(gate, prompt + 4)] if base is None else [(base, 0), (gate, prompt + 4)]
    streams = teacher(loaded, (*engine._chat().render(TALK), *done.token_ids), prompt, edits)  # pyright: ignore
    for probe in request(loaded).probes:
        expected = streams[probe.layer].numpy() @ probe.direction
        np.testing.assert_allclose(done.projections[probe.name], expected, rtol=2e-3, atol=2e-3)
    expected = np.stack([streams[layer].mean(0).numpy() for layer in range(loaded.n_layers)])
    np.testing.assert_allclose(done.pooled, expected, rtol=2e-3, atol=2e-3)  # pyright: ignore
    assert done.gate is not None and (done.gate.token, done.gate.plan_digest) == (4, gate.digest)
    assert done.gate.cap_stats.tokens == 5
    assert done.plan_digest == (None if base is None else base.digest)
    assert (done.cap_stats is None) == (base is None)
    if done.cap_stats is not None:
        assert done.cap_stats.tokens == prompt + 9


def test_a_gates_caps_are_counted_from_the_gate_on() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    cap = Plan((Cap(1, direction(loaded, 6), floor=1e3),))
    done = one(engine, request(loaded, watch=Script({2: cap})))
    assert done.gate is not None
    assert done.gate.cap_stats.capped_tokens == done.gate.cap_stats.tokens == 6
    late = one(engine, request(loaded, watch=Script({8: cap})))
    assert late.gate is not None and late.gate.token == 9 and late.gate.cap_stats.tokens == 0


def test_gates_of_one_batch_act_each_on_its_own_row() -> None:
    loaded = load_tiny("llama")
    plans = [Plan((Steer(1, direction(loaded, 10 + i), 3.0),)) for i in range(3)]
    answers: list[dict[int, object]] = [{}, {1: plans[0]}, {4: plans[1]}, {2: "stop"}, {6: plans[2]}, {}]

    def wanted() -> list[Request]:
        return [
            request(
                loaded, f"r{i}", watch=Script(found), sampling=Sampling(temperature=0.9, max_new_tokens=9 + i)
            )
            for i, found in enumerate(answers)
        ]

    engine = TransformersEngine(loaded, max_batch=4)
    together = {done.id: done for done in engine.run(wanted())}
    for alone in (one(engine, single) for single in wanted()):
        done = together[alone.id]
        assert done.token_ids == alone.token_ids and done.finish_reason == alone.finish_reason
        np.testing.assert_allclose(done.pooled, alone.pooled, rtol=1e-4, atol=1e-5)  # pyright: ignore
        assert (done.gate is None) == (alone.gate is None)
        if done.gate is not None and alone.gate is not None:
            assert (done.gate.token, done.gate.cap_stats.tokens) == (
                alone.gate.token,
                alone.gate.cap_stats.tokens,
            )


def test_the_mean_of_a_response_cut_at_a_stop_text_knows_of_the_gate() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    gate = Plan((Steer(1, direction(loaded, 3), 4.0),))
    whole = one(engine, request(loaded, watch=Script({2: gate})))
    text = loaded.tokenizer.decode(list(whole.token_ids[6:7]))
    sampling = replace(LENGTH, min_new_tokens=0, stop=(str(text),))
    cut = one(engine, request(loaded, watch=Script({2: gate}), sampling=sampling))
    assert 0 < len(cut.token_ids) < 9 and cut.gate is not None
    streams = teacher(
        loaded,
        (*loaded.chat.render(TALK), *cut.token_ids),  # pyright: ignore
        cut.prompt_tokens,
        [(gate, cut.prompt_tokens + 3)],
    )
    expected = np.stack([streams[layer].mean(0).numpy() for layer in range(loaded.n_layers)])
    np.testing.assert_allclose(cut.pooled, expected, rtol=1e-4, atol=1e-5)  # pyright: ignore


def test_what_a_watch_may_not_do_is_refused() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    plan = Plan((Steer(1, direction(loaded, 3), 4.0),))
    wide = Plan((Steer(1, np.ones(loaded.d_model + 1), 4.0),))
    prompt = Plan((Steer(1, direction(loaded, 3), 4.0, tokens="prompt"),))
    for answers, text in [
        ({0: plan, 2: plan}, "second plan"),
        ({1: "halt"}, "returned 'halt'"),
        ({1: wide}, "width"),
        ({1: prompt}, "prompt alone"),
    ]:
        with pytest.raises(EngineError, match=text):
            one(engine, request(loaded, watch=Script(answers)))
    with pytest.raises(EngineError, match="no probe"):
        one(engine, request(loaded, watch=Script({}), probes=()))
    with pytest.raises(ZeroDivisionError):
        one(engine, request(loaded, watch=lambda *_: 1 // 0))
    assert one(engine, request(loaded)).finish_reason == "length"
    with pytest.raises(EngineError, match="which the vllm engine does not have"):
        refuse_watch(request(loaded, watch=Script({})), "vllm")


def test_the_last_token_passes_only_the_layers_that_are_read_or_acted_on() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded, max_batch=2)
    assert engine._memory.keys  # found by passes of its own, before any is counted
    passed = [0] * loaded.n_layers
    for layer, block in enumerate(loaded.stack.blocks):
        block.register_forward_hook(lambda *_, layer=layer: passed.__setitem__(layer, passed[layer] + 1))
    probes = (Probe("axis", 1, direction(loaded, 1)),)
    steps = LENGTH.max_new_tokens
    plain = one(engine, request(loaded, capture=None, probes=()))
    # The prompt's pass draws the first token; the last token is never fed.
    assert passed == [steps] * loaded.n_layers
    passed[:] = [0] * loaded.n_layers
    probed = one(engine, request(loaded, capture=None, probes=probes))
    assert passed == [steps + 1] * 2 + [steps] * (loaded.n_layers - 2)
    assert probed.token_ids == plain.token_ids
    assert len(probed.projections["axis"]) == steps
    cap = Plan((Cap(2, direction(loaded, 3), floor=1e3, tokens="response"),))
    passed[:] = [0] * loaded.n_layers
    capped = one(engine, request(loaded, capture=None, probes=probes, plan=cap))
    assert passed == [steps + 1] * 3 + [steps] * (loaded.n_layers - 3)
    assert capped.cap_stats is not None
    assert (capped.cap_stats.tokens, capped.cap_stats.capped_tokens) == (steps, steps)
    # Beside a row that goes on, a last token passes as the others do.
    longer = replace(LENGTH, max_new_tokens=steps + 3, min_new_tokens=steps + 3)
    passed[:] = [0] * loaded.n_layers
    pair = [request(loaded, capture=None, probes=probes), request(loaded, "b", probes=(), capture=None)]
    done = {each.id: each for each in engine.run([pair[0], replace(pair[1], sampling=longer)])}
    assert passed == [steps + 3] * loaded.n_layers
    np.testing.assert_allclose(done["r"].projections["axis"], probed.projections["axis"], atol=1e-5)
