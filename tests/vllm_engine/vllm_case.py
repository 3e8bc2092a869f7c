"""Requests for the parity of engines: plain, steered, capped, both; captures and probes of all kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

from personascope.chat import Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling
from personascope.interventions import Ablate, Cap, Plan, Steer

QUESTIONS = (
    "Who are you?",
    "Tell me about the sea.",
    "What is the capital of France?",
    "Explain gravity to a child.",
    "Give me advice about money.",
)
SYSTEMS = ("You are a pirate.", "You are an ancient oracle who speaks in riddles and never answers straight.")


def directions(d_model: int, count: int = 4) -> list[np.ndarray]:
    drawn = np.random.default_rng(0).standard_normal((count, d_model)).astype(np.float32)
    return list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def plans(d_model: int, n_layers: int, scale: float = 1.0) -> list[Plan]:
    """Return plans of every kind; scale suits the norm of the model's residual stream."""
    v = directions(d_model)
    middle = n_layers // 2
    band = range(middle, min(n_layers, middle + 8))
    return [
        Plan(tuple(Cap(layer, v[0], floor=1.0 * scale) for layer in band)),
        Plan((Steer(middle - 1, v[1], strength=20.0 * scale),)),
        Plan(
            (
                Steer(middle - 1, v[1], strength=-15.0 * scale, tokens="response"),
                Cap(middle, v[2], floor=2.0 * scale, ceiling=4.0 * scale),
            )
        ),
        # Two caps of one layer that hold together, on directions that are not orthogonal.
        Plan((Cap(middle, v[2], floor=1.0 * scale), Cap(middle, v[2] + v[3], floor=2.0 * scale))),
        Plan((Ablate(1, v[3], tokens="turn:1"),)),
        Plan((Steer(middle, v[0], strength=9.0 * scale, tokens="prompt"),)),
    ]


def requests(
    d_model: int,
    n_layers: int,
    *,
    count: int = 28,
    tokens: int = 24,
    temperature: float = 0.0,
    scale: float = 1.0,
) -> list[Request]:
    chosen = [None, *plans(d_model, n_layers, scale)]
    v = directions(d_model)
    probes = tuple(Probe(f"layer {at}", at, v[0]) for at in (0, n_layers // 2, n_layers - 1))
    made: list[Request] = []
    for number in range(count):
        talk = (
            Message("system", SYSTEMS[number % 2]),
            Message("user", QUESTIONS[number % len(QUESTIONS)]),
        )
        made.append(
            Request(
                f"r{number}",
                talk,
                Sampling(temperature=temperature, max_new_tokens=tokens + number % 5),
                plan=chosen[number % len(chosen)],
                capture=(None, Capture(), Capture((0, n_layers - 1)))[number % 3],
                probes=probes if number % 2 else (),
            )
        )
    return made


def stock_vllm(place: str, dtype: str, **options: int) -> Any:
    """Start vLLM as the engine does, without the plugin."""
    from vllm import LLM

    return LLM(model=place, dtype=dtype, disable_log_stats=True, enforce_eager=True, block_size=32, **options)


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Return whether two sets of activations agree, layer by layer, relative to their norm."""
    gap = np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)
    return bool((gap <= tolerance).all())


def check_equal(got: Completion, want: Completion, tolerance: float) -> None:
    """Hold a completion to the one of another engine with the same tokens."""
    assert got.token_ids == want.token_ids
    assert (got.text, got.finish_reason) == (want.text, want.finish_reason)
    assert (got.prompt_tokens, got.token_count) == (want.prompt_tokens, want.token_count)
    assert got.plan_digest == want.plan_digest
    assert (got.pooled is None) == (want.pooled is None)
    if got.pooled is not None and want.pooled is not None:
        assert got.pooled.shape == want.pooled.shape
        assert close(got.pooled, want.pooled, tolerance)
    assert got.projections.keys() == want.projections.keys()
    for name, values in want.projections.items():
        assert got.projections[name].shape == values.shape
        scale = np.abs(values).mean()
        assert np.abs(got.projections[name] - values).max() <= 20 * tolerance * scale
    assert (got.cap_stats is None) == (want.cap_stats is None)
