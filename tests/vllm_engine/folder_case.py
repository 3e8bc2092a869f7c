"""Tiny models in folders that both engines read, and the comparison of the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import transformers
from vllm_case import check_equal, requests

from personascope.engines import Engine, Request, load_engine
from tiny import TEMPLATE_OF, _build, _common, tiny_tokenizer

# vLLM's attention takes heads of 32 and more.
SHAPE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}


def _config(family: str, **changes: int) -> transformers.PreTrainedConfig:
    t = transformers
    common = _common(family, **(SHAPE | changes))
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


def saved(family: str, folder: Path, **changes: int) -> Path:
    """Save a tiny model of a family and its tokenizer; changes go into its config."""
    _build(family, _config(family, **changes)).save_pretrained(folder)
    tiny_tokenizer(TEMPLATE_OF[family]).save_pretrained(folder)
    return folder


def folder_requests(engine: Engine, count: int = 28) -> list[Request]:
    """Return mixed requests that suit the engine's model."""
    wanted = requests(engine.info.d_model, engine.info.n_layers, count=count, tokens=12, scale=0.1)
    if engine.chat is not None:
        return wanted
    # A model without a chat template takes tokens, and knows no turns.
    return [
        replace(request, prompt=engine.encode(request.prompt[1].content), plan=request.plan)
        for request in wanted
        if request.plan is None or not any(op.tokens.startswith("turn") for op in request.plan.ops)
    ]


def compare(folder: Path, check: Callable[[Engine], None] | None = None, **options: object) -> None:
    """Hold vLLM to the Transformers engine on a folder, in float32.

    Args:
        folder: The model.
        check: What else is to be true of the running engine.
        options: Of the vLLM engine.
    """
    reference = load_engine(str(folder), dtype="float32", max_batch=32)
    wanted = folder_requests(reference)
    want = {completion.id: completion for completion in reference.run(wanted)}
    engine = load_engine(str(folder), engine="vllm", dtype="float32", max_batch=32, **options)
    try:
        if check is not None:
            check(engine)
        got = {completion.id: completion for completion in engine.run(wanted)}
        assert got.keys() == want.keys()
        for name in want:
            check_equal(got[name], want[name], 2e-5)
        assert any(want[request.id].cap_stats.capped_tokens for request in wanted if request.plan is not None)
    finally:
        engine.close()
