"""Conversations in vLLM: the same as with the Transformers engine, and no watch that it could not call.

The name comes after those of the tests with engines of their own: while the session's engine lives, the
memory of engines that were closed is not given back.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from personascope.chat import Message
from personascope.corpus.dialogues import load_domain
from personascope.dynamics import read_drift
from personascope.dynamics.conversations import sample_scenarios, simulate
from personascope.dynamics.conversations._auditor import ScriptedAuditor
from personascope.engines import Probe, Request, Sampling
from personascope.errors import EngineError

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")


def made_up_map(engine) -> SimpleNamespace:
    """Return what a simulation asks of a map, with random axes."""
    layers, width = engine.info.n_layers, engine.info.d_model
    axes = np.random.default_rng(0).standard_normal((layers, width)).astype(np.float32)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return SimpleNamespace(
        middle_layer=15,
        n_layers=layers,
        digest="made up",
        unit_axis=lambda layer: axes[layer],
        project=lambda pooled: (pooled * axes).sum(-1),
        stats=SimpleNamespace(mean_projection=np.zeros(layers), default_projection=np.ones(layers)),
    )


def test_conversations_are_those_of_the_transformers_engine(vllm_engine, reference, tmp_path: Path) -> None:
    scenarios = sample_scenarios([load_domain("coding"), load_domain("therapy")], 3)
    runs = []
    for name, engine in (("vllm", vllm_engine), ("transformers", reference)):
        simulate(
            engine,
            made_up_map(engine),  # pyright: ignore[reportArgumentType]
            scenarios,
            ScriptedAuditor(),
            out=tmp_path / name,
            turns=3,
            sampling=Sampling(temperature=0, max_new_tokens=12),
        )
        runs.append(read_drift(tmp_path / name))
    for ours, theirs in zip(runs[0].dialogues, runs[1].dialogues, strict=True):
        assert ours.ended == theirs.ended == "turns"
        for one, other in zip(ours.turns, theirs.turns, strict=True):
            assert (one.user, one.reply, one.token_count) == (other.user, other.reply, other.token_count)
            assert one.prompt_tokens == other.prompt_tokens
            np.testing.assert_allclose(one.projections, other.projections, rtol=1e-3, atol=2e-2)
            np.testing.assert_allclose(one.tokens, other.tokens, rtol=1e-3, atol=2e-2)


def test_a_watch_is_refused_by_name(vllm_engine) -> None:
    probe = Probe("axis", 3, np.ones(vllm_engine.info.d_model, np.float32))
    request = Request("r", (Message("user", "Hi."),), probes=(probe,), watch=lambda *_: None)
    with pytest.raises(EngineError, match="which the vllm engine does not have"):
        list(vllm_engine.run([request]))
