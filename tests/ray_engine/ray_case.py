"""Requests for tiny models, and how completions are compared."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from personascope.chat import Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling
from personascope.interventions import Cap, Plan, Steer

SYSTEMS = ("", "You are a pirate who counts the waves.", "Speak as the old tree in the yard does.")
QUESTIONS = ("Who are you?", "What is rain?", "Tell me about money, and about the sea at night.", "Sing.")


def requests(count: int, *, tokens: int = 20, d_model: int = 48, temperature: float = 0.0) -> list[Request]:
    """Return requests of all kinds: plain and with plans, with and without captures and probes."""
    v = np.random.default_rng(0).standard_normal((2, d_model)).astype(np.float32)
    plans = (None, Plan((Steer(1, v[0], strength=2.0),)), Plan((Cap(2, v[1], floor=0.5),)))
    made: list[Request] = []
    for number in range(count):
        system, question = SYSTEMS[number % 3], QUESTIONS[(number // 3) % 4]
        talk = (Message("system", system),) if system else ()
        made.append(
            Request(
                f"r{number}",
                (*talk, Message("user", f"{question} ({number})")),
                Sampling(temperature=temperature, max_new_tokens=1 + (7 * number) % tokens),
                plan=plans[number % len(plans)],
                capture=(Capture(), None, Capture((0, 3)))[number % 3],
                probes=(Probe("p", 2, v[0]),) if number % 2 else (),
                seed=5,
            )
        )
    return made


def by_id(completions: Iterable[Completion]) -> dict[str, Completion]:
    """Return completions by id; none may come twice."""
    found: dict[str, Completion] = {}
    for completion in completions:
        assert completion.id not in found, f"{completion.id} came twice"
        found[completion.id] = completion
    return found


def check_same(got: dict[str, Completion], want: dict[str, Completion]) -> None:
    assert got.keys() == want.keys()
    for name, b in want.items():
        a = got[name]
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        assert (a.prompt_tokens, a.token_count) == (b.prompt_tokens, b.token_count)
        assert a.plan_digest == b.plan_digest
        assert (a.cap_stats is None) == (b.cap_stats is None)
        if a.cap_stats is not None and b.cap_stats is not None:
            assert (a.cap_stats.tokens, a.cap_stats.fired) == (b.cap_stats.tokens, b.cap_stats.fired)
        assert (a.pooled is None) == (b.pooled is None)
        if a.pooled is not None and b.pooled is not None:
            assert a.pooled.dtype == np.float32 and a.pooled.shape == b.pooled.shape
            gap = np.linalg.norm(a.pooled - b.pooled, axis=-1) / np.linalg.norm(b.pooled, axis=-1)
            assert gap.max() <= 1e-5
        assert a.projections.keys() == b.projections.keys()
        for key, values in b.projections.items():
            assert np.allclose(a.projections[key], values, rtol=1e-4, atol=1e-4)
