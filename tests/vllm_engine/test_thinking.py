"""Replies that think: both engines tell the same parts apart, and read the same tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from chat.reply_templates import SHAPES
from helpers.scripted import save_family
from personascope.chat import Message
from personascope.engines import Capture, Probe, Request, Sampling, load_engine
from tiny import family_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")


def test_both_engines_read_the_same_parts(tmp_path):
    family = SHAPES["qwen3_thinking"].family
    folder = save_family(family, tmp_path / "model", head_dim=32)
    # A random model seldom closes its reasoning: this one is inclined to.
    weights = load_file(folder / "model.safetensors")
    close = family_tokenizer(family).convert_tokens_to_ids("</think>")
    weights["lm_head.weight"][close] *= 2.2
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    other = load_engine(str(folder), dtype="float32", device="cpu")
    engine = load_engine(str(folder), engine="vllm", dtype="float32", max_batch=8)
    try:
        assert (engine.chat.thinking, engine.info.chat_digest) == ("always", other.info.chat_digest)
        probe = Probe("p", 1, torch.ones(128).numpy())
        base = Request(
            "",
            (),
            Sampling(temperature=0, max_new_tokens=16, max_thinking_tokens=24),
            capture=Capture(),
            probes=(probe,),
        )
        left = 0
        for tokens in ("answer", "thinking", "response"):
            asked = [
                replace(
                    base, id=f"r{n}", prompt=(Message("user", f"Who are you, number {n}?"),), tokens=tokens
                )
                for n in range(8)
            ]
            got, want = ({c.id: c for c in one.run(asked)} for one in (engine, other))
            # Noise may change a token of a random model, and with it all that follow.
            same = [id for id in want if got[id].token_ids == want[id].token_ids]
            assert len(same) >= 4
            for id in same:
                found, wanted = got[id], want[id]
                assert (found.spans, found.text) == (wanted.spans, wanted.text)
                assert (found.reasoning, found.finish_reason) == (wanted.reasoning, wanted.finish_reason)
                assert found.token_count == wanted.token_count
                assert (found.pooled is None) == (wanted.pooled is None)
                if wanted.pooled is not None:
                    np.testing.assert_allclose(found.pooled, wanted.pooled, atol=2e-4)
                np.testing.assert_allclose(found.projections["p"], wanted.projections["p"], atol=2e-3)
                left += wanted.left_thinking
        assert left
    finally:
        engine.close()
