"""These tests need vLLM, which has an environment of its own (see the Makefile)."""

from __future__ import annotations

import os

import pytest
from vllm_case import stock_vllm

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


@pytest.fixture(scope="session")
def reference():
    """The Transformers engine on SmolLM2 in float32, which the others are held to."""
    from personascope.engines import load_engine

    return load_engine("smollm2-135m", dtype="float32", max_batch=32)


@pytest.fixture(scope="session")
def vllm_engine():
    from personascope.engines import load_engine

    engine = load_engine("smollm2-135m", engine="vllm", dtype="float32", max_batch=32)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def stock(vllm_engine):
    """The same vLLM without the plugin; it lives to the end: one that goes takes vLLM's globals along."""
    return stock_vllm(
        vllm_engine.files.place,
        "float32",
        max_num_seqs=32,
        max_model_len=8192,
        kv_cache_memory_bytes=1 << 30,
    )


@pytest.fixture(scope="session")
def tight_engine():
    """Prompts in chunks of 48 tokens, and so few blocks that running requests are preempted."""
    from personascope.engines import load_engine

    engine = load_engine(
        "smollm2-135m",
        engine="vllm",
        dtype="float32",
        max_batch=32,
        max_num_batched_tokens=48,
        num_gpu_blocks_override=20,
        max_model_len=512,
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    """A Qwen3-shaped model that thinks, in both engines."""
    from parts_case import pair, save_tags

    with pair(save_tags(tmp_path_factory.mktemp("tags") / "model")) as both:
        yield both


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """A harmony-shaped model; so few blocks that requests are preempted, and prompts in chunks."""
    from parts_case import pair, save_channels

    folder = save_channels(tmp_path_factory.mktemp("channels") / "model")
    tight = {"max_num_batched_tokens": 24, "num_gpu_blocks_override": 14, "max_model_len": 256}
    with pair(folder, **tight) as both:
        yield both
