"""Models that think, in both engines, and requests whose plans act on parts of their replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from vllm_case import close

from chat.reply_templates import SHAPES
from helpers.chains import save_chains
from personascope.chat import Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling, load_engine
from personascope.interventions import Ablate, Cap, Plan, Steer

D, LAYERS = 128, 4
SAMPLING = Sampling(temperature=0, max_new_tokens=18, max_thinking_tokens=30)


def save_tags(folder: Path) -> Path:
    """Save a Qwen3-shaped model that always thinks, and whose closing mark is two tokens."""
    family = replace(SHAPES["qwq"].family, plain_added=("</thi", "nk>"))
    return save_chains(family, folder, ["</think>\n\n"], openings=160)


def save_channels(folder: Path) -> Path:
    """Save a harmony-shaped model, whose parts are channels with headers of several tokens."""
    header = "<|end|><|start|>assistant<|channel|>analysis<|message|>"
    others = ("<|channel|>final<|message|>", "<|channel|>commentary to=f<|message|>")
    return save_chains(SHAPES["harmony"].family, folder, [header, *others])


@dataclass
class Pair:
    """The same model in both engines."""

    vllm: Any
    transformers: Any
    folder: Path


@contextmanager
def pair(folder: Path, **options: Any) -> Iterator[Pair]:
    """Load a model in both engines."""
    other = load_engine(str(folder), dtype="float32", device="cpu", max_batch=8)
    options = {"kv_cache_memory_bytes": 1 << 28, **options}
    engine = load_engine(str(folder), engine="vllm", dtype="float32", max_batch=8, **options)
    try:
        yield Pair(engine, other, folder)
    finally:
        engine.close()


def vectors(count: int = 4) -> list[np.ndarray]:
    drawn = np.random.default_rng(0).standard_normal((count, D)).astype(np.float32)
    return list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def plans() -> list[Plan]:
    """Return plans on parts of every kind, alone and beside others."""
    v = vectors()
    return [
        Plan((Steer(1, v[0], 3.0, tokens="thinking"),)),
        Plan((Steer(1, v[0], 3.0, tokens="answer"),)),
        Plan((Cap(1, v[1], floor=0.5, tokens="thinking"), Cap(2, v[1], ceiling=-0.2, tokens="answer"))),
        Plan((Steer(0, v[2], 1.0, tokens="prompt"), Cap(2, v[3], floor=0.4, tokens="thinking"))),
        Plan(
            (
                Cap(1, v[2], floor=0.3),
                Cap(1, v[3], floor=0.3, tokens="answer"),
                Ablate(3, v[0], tokens="response"),
            )
        ),
    ]


def requests(
    kinds: list[Plan | None], count: int, *, start: int = 0, sampling: Sampling = SAMPLING
) -> list[Request]:
    """Return requests with all plans and selections; prompts differ early, so that no cache is shared."""
    probes = (Probe("a", 1, vectors()[0]), Probe("b", 3, vectors()[1]))
    selections = ("answer", "thinking", "response", "all", "prompt", "turn:0")
    return [
        Request(
            f"r{start + n}",
            (Message("user", f"{start + n} times, who are you and what is the sea?"),),
            sampling,
            plan=kinds[n % len(kinds)],
            tokens=selections[n % len(selections)],
            capture=(None, Capture(), Capture((0, 3)))[n % 3],
            probes=probes if n % 2 else (),
        )
        for n in range(count)
    ]


def run(engine: Any, wanted: list[Request]) -> dict[str, Completion]:
    return {done.id: done for done in engine.run(wanted)}


def hold(got: Completion, want: Completion) -> None:
    """Hold a completion of vLLM to that of the Transformers engine."""
    assert got.token_ids == want.token_ids, got.id
    assert (got.text, got.reasoning, got.tool_calls) == (want.text, want.reasoning, want.tool_calls)
    assert (got.finish_reason, got.spans) == (want.finish_reason, want.spans), got.id
    assert (got.prompt_tokens, got.token_count) == (want.prompt_tokens, want.token_count)
    assert (got.pooled is None) == (want.pooled is None)
    if got.pooled is not None and want.pooled is not None:
        assert close(got.pooled, want.pooled, 1e-4)
    assert got.projections.keys() == want.projections.keys()
    for name, values in want.projections.items():
        np.testing.assert_allclose(got.projections[name], values, atol=5e-3)
    assert got.plan_digest == want.plan_digest
    same_counts(got.cap_stats, want.cap_stats)
    assert (got.gate is None) == (want.gate is None)
    if got.gate is not None and want.gate is not None:
        assert (got.gate.token, got.gate.plan_digest) == (want.gate.token, want.gate.plan_digest)
        same_counts(got.gate.cap_stats, want.gate.cap_stats)


def same_counts(got: Any, want: Any) -> None:
    assert (got is None) == (want is None)
    if want is not None:
        assert (got.tokens, got.capped_tokens, got.fired) == (want.tokens, want.capped_tokens, want.fired)
        np.testing.assert_allclose(got.max_moved, want.max_moved, rtol=1e-3, atol=1e-4)
