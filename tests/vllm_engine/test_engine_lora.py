"""A LoRA adapter beside a plan: the same as a model that has the adapter merged into its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_case import saved
from safetensors.torch import save_file

from personascope.chat import Message
from personascope.engines import Capture, Request, Sampling, load_engine
from personascope.interventions import Cap, Plan, Steer
from tiny import tiny_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

RANK, ALPHA = 8, 16


def _adapted(base: Path, adapter: Path, merged: Path) -> None:
    """Write an adapter with random weights, and the base model with the adapter in its weights."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, torch.Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        for name in ("q_proj", "v_proj", "o_proj"):
            weight = getattr(block.self_attn, name).weight
            a = torch.randn(RANK, weight.shape[1], generator=generator) * 0.2
            b = torch.randn(weight.shape[0], RANK, generator=generator) * 0.2
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
            weight.data += ALPHA / RANK * b @ a
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "v_proj", "o_proj"],
        "bias": "none",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    model.save_pretrained(merged)
    tiny_tokenizer("chatml").save_pretrained(merged)


def test_a_plan_acts_on_an_adapted_model(tmp_path: Path) -> None:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    from personascope.engines._vllm.request._results import read_results

    base = saved("llama", tmp_path / "base")
    _adapted(base, tmp_path / "adapter", tmp_path / "merged")
    engine = load_engine(
        str(base),
        engine="vllm",
        dtype="float32",
        max_batch=8,
        enable_lora=True,
        max_lora_rank=RANK,
        kv_cache_memory_bytes=256 << 20,
    )
    reference = load_engine(str(tmp_path / "merged"), dtype="float32")
    plain = load_engine(str(base), dtype="float32")
    rng = np.random.default_rng(0)
    width = engine.info.d_model
    plan = Plan((Steer(1, rng.standard_normal(width), 1.5), Cap(2, rng.standard_normal(width), floor=0.3)))
    try:
        prompt = engine.chat.render((Message("user", "What is rain?"),))
        params = SamplingParams(
            temperature=0,
            max_tokens=12,
            min_tokens=12,
            stop_token_ids=sorted(engine.files.eos_token_ids),
            extra_args={"personascope": {"key": "k", "plan": engine.register(plan), "pool": True}},
        )
        (output,) = engine.llm.generate(
            [{"prompt_token_ids": list(prompt)}],
            params,
            lora_request=LoRARequest("adapter", 1, str(tmp_path / "adapter")),
            use_tqdm=False,
        )
        tokens = tuple(output.outputs[0].token_ids)
        found = read_results(engine.llm.collective_rpc("personascope_fetch", args=(["k"],)))["k"]
    finally:
        engine.close()
    how = Sampling(temperature=0, max_new_tokens=12, min_new_tokens=12)
    request = Request("r", tuple(prompt), how, plan=plan, capture=Capture())
    (expected,), (other,) = list(reference.run([request])), list(plain.run([request]))
    assert tokens == expected.token_ids != other.token_ids
    assert found.sums is not None and found.plan == plan.digest
    pooled = np.asarray(found.sums).reshape(expected.pooled.shape) / found.counts[0]
    # The last token was drawn and never fed: the means are over one token less.
    assert found.counts[0] == 11
    how = Sampling(temperature=0, max_new_tokens=11, min_new_tokens=11)
    short = Request("s", tuple(prompt), how, plan=plan, capture=Capture())
    (eleven,) = reference.run([short])
    assert eleven.token_ids == tokens[:11]
    np.testing.assert_allclose(pooled, eleven.pooled, rtol=1e-4, atol=1e-4)
