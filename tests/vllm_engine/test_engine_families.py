"""Other architectures, dtypes and modes: tiny models that both engines read from one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers
from vllm_case import check_equal, close, requests

from personascope.engines import Capture, Request, Sampling, load_engine
from personascope.errors import EngineError
from tiny import TEMPLATE_OF, _build, _common, tiny_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

# vLLM's attention takes heads of 32 and more.
SHAPE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}


def _config(family: str) -> transformers.PreTrainedConfig:
    t = transformers
    common = _common(family, **SHAPE)
    if family == "llama":
        return t.LlamaConfig(**common)
    if family == "qwen3":
        return t.Qwen3Config(**common)
    if family == "gemma3":
        return t.Gemma3TextConfig(**common, sliding_window=32, query_pre_attn_scalar=32)
    if family == "mixtral":
        return t.MixtralConfig(**common, num_local_experts=4, num_experts_per_tok=2)
    assert family == "gpt2"
    tokenizer = tiny_tokenizer("none")
    return t.GPT2Config(
        vocab_size=common["vocab_size"],
        n_embd=64,
        n_layer=4,
        n_head=2,
        n_positions=1024,
        initializer_range=0.15,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _saved(family: str, folder: Path) -> Path:
    _build(family, _config(family)).save_pretrained(folder)
    tiny_tokenizer(TEMPLATE_OF[family]).save_pretrained(folder)
    return folder


def _requests(engine, count: int = 28):
    wanted = requests(engine.info.d_model, engine.info.n_layers, count=count, tokens=12, scale=0.1)
    if engine.chat is not None:
        return wanted
    # A model without a chat template takes tokens, and knows no turns.
    return [
        replace(request, prompt=engine.encode(request.prompt[1].content), plan=request.plan)
        for request in wanted
        if request.plan is None or not any(op.where.startswith("turn") for op in request.plan.ops)
    ]


def _compare(folder: Path, **options):
    reference = load_engine(str(folder), dtype="float32", max_batch=32)
    wanted = _requests(reference)
    want = {completion.id: completion for completion in reference.run(wanted)}
    engine = load_engine(str(folder), engine="vllm", dtype="float32", max_batch=32, **options)
    try:
        got = {completion.id: completion for completion in engine.run(wanted)}
        assert got.keys() == want.keys()
        for name in want:
            check_equal(got[name], want[name], 2e-5)
        assert any(want[request.id].telemetry.capped_tokens for request in wanted if request.plan is not None)
    finally:
        engine.close()


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "gpt2", "mixtral"])
def test_every_family_equals_the_reference(family, tmp_path):
    _compare(_saved(family, tmp_path / family))


def test_a_compiled_model_equals_the_reference(tmp_path):
    _compare(_saved("llama", tmp_path / "llama"), enforce_eager=False)


def test_bfloat16_agrees_within_its_noise():
    engine = load_engine("smollm2-135m", engine="vllm", dtype="bfloat16", max_batch=32)
    other = load_engine("smollm2-135m", dtype="bfloat16", max_batch=32)
    try:
        wanted = [r for r in requests(576, 30, count=28) if r.plan is None or r.plan.layers[0] > 1]
        got = {completion.id: completion for completion in engine.run(wanted)}
        want = {completion.id: completion for completion in other.run(wanted)}
        same = [name for name in want if got[name].token_ids == want[name].token_ids]
        # Rounding changes a token here and there, and with it all that follow.
        assert len(same) >= len(want) // 3
        pooled = [name for name in same if want[name].pooled is not None]
        assert pooled
        for name in pooled:
            assert close(got[name].pooled, want[name].pooled, 2e-2)
            assert np.isfinite(got[name].pooled).all()
    finally:
        engine.close()


def test_layers_that_are_not_armed_are_refused_by_name(tmp_path):
    engine = load_engine(
        str(_saved("llama", tmp_path / "llama")), engine="vllm", dtype="float32", max_batch=8, layers=[1, 2]
    )
    try:
        first = engine.encode("Who are you?")
        sampling = Sampling(temperature=0, max_new_tokens=4)
        good = Request("good", first, sampling, capture=Capture((1, 2)))
        for capture, layer in ((Capture((3,)), 3), (Capture(), 0)):
            with pytest.raises(EngineError, match=f"'bad' was refused: layer {layer} is not armed"):
                list(engine.run([good, Request("bad", first, sampling, capture=capture)]))
        (completion,) = engine.run([good])
        assert completion.pooled.shape == (2, 64)
        stats = engine.stats()
        assert stats["requests"] == stats["results"] == 0
    finally:
        engine.close()
