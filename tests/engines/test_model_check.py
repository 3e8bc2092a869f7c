"""Kinds of model against Transformers itself, what is refused by name, and that the check can fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import cache_utils

from personascope.chat import Message
from personascope.engines import Capture, Probe, Request, Sampling, TransformersEngine, verify_model
from personascope.engines._transformers._memory import KeysMemory, NoMemory, StateMemory
from personascope.errors import EngineError, ModelError
from personascope.interventions import Plan, Steer
from personascope.models import LoadedModel, block_output, replace_block_output
from personascope.models._load import assemble
from personascope.models._source import ModelSource
from tiny import load_tiny, tiny_tokenizer
from tiny_configs import tiny_of


def loaded(model_type: str) -> LoadedModel:
    source = ModelSource(model_type, "folder", (Path("tiny"),), revision="tiny")
    return assemble(tiny_of(model_type), tiny_tokenizer("chatml"), source=source)


# Recurrent layers of five kinds, keys shared between layers, sinks, chunks, latent attention, experts, a
# cache of its own, no cache, parallel residuals, positions that the model does not count itself.
KINDS = {
    "qwen3_5_text": StateMemory,
    "granitemoehybrid": StateMemory,
    "lfm2": StateMemory,
    "falcon_h1": StateMemory,
    "recurrent_gemma": NoMemory,
    "mamba": StateMemory,
    "bamba": StateMemory,
    "nemotron_h": StateMemory,
    "gemma4_text": KeysMemory,
    "gpt_oss": KeysMemory,
    "llama4_text": KeysMemory,
    "deepseek_v3": KeysMemory,
    "glm4_moe": KeysMemory,
    "gptj": KeysMemory,
    "minimax": NoMemory,
    "openai-gpt": NoMemory,
}


RECURRENT = set(list(KINDS)[:8]) | {"gemma4_text"}
# The first releases of Transformers 5 have a cache of its own for every recurrent family, or not the family.
OLD = not hasattr(cache_utils, "LinearAttentionLayer")


@pytest.mark.parametrize("model_type", [kind for kind in KINDS if not (OLD and kind in RECURRENT)])
def test_every_operation_equals_the_models_own_library(model_type: str) -> None:
    engine = TransformersEngine(loaded(model_type))
    checks = {check.operation: check for check in verify_model(engine)}
    assert list(checks) == ["run", "observe", "score", "follow", "steered", "cap"]
    assert {name: check.outcome for name, check in checks.items()} == dict.fromkeys(checks, "SUPPORTED"), (
        checks
    )
    assert issubclass(engine._memory.kind, KINDS[model_type])


@pytest.mark.parametrize(
    ("model_type", "text"),
    [
        ("gemma3n_text", r"several residual streams \(\[4, 1, 2, 64\]"),
        ("reformer", "several residual streams"),
        ("camembert", "does not count positions from 0"),
        ("xlnet", "expected one list of 4 blocks of width 64"),
    ],
)
def test_what_cannot_be_read_is_refused_when_it_is_loaded(model_type: str, text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        loaded(model_type)
    assert caught.value.hint


def test_an_encoder_that_reads_both_ways_is_refused() -> None:
    model = tiny_of("electra", decoder=False)
    with pytest.raises(ModelError, match="not causal"):
        assemble(model, tiny_tokenizer("chatml"), source=ModelSource("e", "folder", (Path("e"),)))


def test_the_check_tells_a_wrong_number_from_a_refusal_and_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(load_tiny("llama"))
    run = TransformersEngine.run

    def off(self: TransformersEngine, requests: object) -> object:
        for done in run(self, requests):  # type: ignore[arg-type]
            yield dataclasses.replace(done, pooled=done.pooled * 1.01)

    def refuse(*_: object, **__: object) -> object:
        raise EngineError("not here", hint="elsewhere")

    monkeypatch.setattr(TransformersEngine, "run", off)
    monkeypatch.setattr(TransformersEngine, "observe", refuse)
    monkeypatch.setattr(TransformersEngine, "score", lambda *_: 1 // 0)
    outcomes = {check.operation: check.outcome for check in verify_model(engine)}
    assert outcomes["run"] == "SILENTLY_WRONG"
    assert outcomes["observe"] == "ERROR"
    assert outcomes["score"] == "CRASH"


@pytest.mark.skipif(OLD, reason="no such family")
@pytest.mark.parametrize("model_type", ["qwen3_5_text", "openai-gpt"])
def test_rows_of_a_recurrent_model_are_the_same_in_any_batch(model_type: str) -> None:
    model = loaded(model_type)
    rng = np.random.default_rng(0)
    plans = [None, Plan((Steer(1, rng.standard_normal(model.d_model), 4.0),))]
    # Prompts of several lengths, some of them equal, and responses that end at different steps.
    asked = [
        Request(
            f"r{i}",
            tuple(range(30, 36 + i % 3)),
            Sampling(temperature=0.9, top_p=0.95, max_new_tokens=1 + (5 * i) % 11),
            plan=plans[i % 2],
            capture=Capture(),
        )
        for i in range(14)
    ]
    together = {c.id: c for c in TransformersEngine(model, max_batch=6).run(asked)}
    for request in asked:
        alone = next(iter(TransformersEngine(model, max_batch=1).run([request])))
        mine = together[request.id]
        assert mine.token_ids == alone.token_ids
        assert mine.cap_stats == alone.cap_stats
        if mine.pooled is not None:
            np.testing.assert_allclose(mine.pooled, alone.pooled, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(OLD, reason="no such family")
def test_a_watch_switches_a_plan_on_where_the_model_keeps_the_tokens_before_it() -> None:
    text = tuple(range(40, 46))

    def asked(model: LoadedModel, *, stop: tuple[str, ...] = ()) -> Request:
        push = Plan((Steer(1, np.ones(model.d_model), 6.0),))
        probe = Probe("p", 1, np.ones(model.d_model, np.float32))
        sampling = Sampling(temperature=0.0, max_new_tokens=9, stop=stop)
        return Request(
            "w",
            text,
            sampling,
            probes=(probe,),
            capture=Capture(),
            watch=lambda token, _: push if token == 2 else None,
        )

    model = loaded("qwen3_5_text")
    engine = TransformersEngine(model)
    gated = next(engine.run([asked(model)]))
    assert gated.gate is not None and gated.gate.token == 3
    # A stop text that begins in the middle makes the mean anew, under both plans in turn.
    whole = model.tokenizer.decode(list(gated.token_ids))
    cut = next(engine.run([asked(model, stop=(whole[-2:],))]))
    assert 3 < len(cut.token_ids) < 9
    push = Plan((Steer(1, np.ones(model.d_model), 6.0),))
    ids = torch.tensor([[*text, *cut.token_ids]])
    seen: list[torch.Tensor] = []

    def act(_module: object, _inputs: object, output: object) -> object:
        hidden = block_output(output).clone()
        hidden[0, len(text) + 3 :] += torch.from_numpy(push.ops[0].direction * np.float32(6.0))
        seen.append(hidden[0, len(text) :].mean(0))
        return replace_block_output(output, hidden)

    handle = model.stack.blocks[1].register_forward_hook(act)
    with torch.inference_mode():
        model.model(input_ids=ids, use_cache=False)
    handle.remove()
    np.testing.assert_allclose(cut.pooled[1], seen[0].numpy(), rtol=1e-3, atol=1e-3)  # pyright: ignore
    forgets = loaded("openai-gpt")
    with pytest.raises(EngineError, match="keeps nothing of the tokens before it"):
        next(TransformersEngine(forgets).run([asked(forgets)]))


def test_a_prompt_longer_than_the_context_is_refused_before_it_runs() -> None:
    engine = TransformersEngine(load_tiny("llama"))
    context = engine.info.context
    assert context == 1024
    ids = tuple([5] * context)
    with pytest.raises(EngineError, match="'long' has 1024 tokens, and the model reads 1024"):
        next(engine.run([Request("long", ids)]))
    talk = (Message("user", "a word " * 3000),)
    reading = [
        lambda: engine.observe(talk, capture=Capture()),
        lambda: engine.follow(capture=Capture()).read(talk),
        lambda: next(engine.run([Request("talk", talk)])),
    ]
    for read in reading:
        with pytest.raises(EngineError, match="the model reads 1024"):
            read()


def test_fifty_megabytes_are_refused_by_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(load_tiny("llama"))
    monkeypatch.setattr(type(engine), "_chat", lambda _: pytest.fail("the text was rendered"))
    with pytest.raises(EngineError, match="50,000,000 characters"):
        next(engine.run([Request("huge", (Message("user", "x" * 50_000_000),))]))


def test_a_response_ends_where_the_context_does() -> None:
    model = load_tiny("gpt2")
    engine = TransformersEngine(model)
    asked = Request("r", tuple([9] * 1020), Sampling(temperature=0.0, max_new_tokens=50, min_new_tokens=50))
    done = next(engine.run([asked]))
    assert (done.finish_reason, len(done.token_ids)) == ("length", 4)


def test_values_that_are_not_finite_fail_their_request_and_no_other() -> None:
    model = load_tiny("llama", dtype=torch.float16)
    # Each may act in float16; together they leave it.
    push = Plan((Steer(1, np.eye(model.d_model)[0], 6e4), Steer(1, np.eye(model.d_model)[0], 5e4)))
    asked = [
        Request(f"r{i}", tuple(range(40, 50 + i)), Sampling(max_new_tokens=6), capture=Capture())
        for i in range(4)
    ]
    asked.insert(2, Request("pushed", tuple(range(40, 52)), Sampling(max_new_tokens=6), plan=push))
    engine = TransformersEngine(model)
    done: list[str] = []
    wrong = rf"'pushed': .* not finite in float16 under the plan {push.digest}"
    with pytest.raises(EngineError, match=wrong):
        done.extend(completion.id for completion in engine.run(asked))
    assert sorted(done) == ["r0", "r1", "r2", "r3"]
    talk = (Message("user", "Hello"), Message("assistant", "Good day."))
    with pytest.raises(EngineError, match="not finite in float16"):
        engine.observe(talk, capture=Capture(), plan=push)
