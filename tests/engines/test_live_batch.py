"""A batch that requests join and leave: the same completions as `run`, and tokens told as they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from personascope.chat import Message
from personascope.engines import (
    LiveBatch,
    LiveEnd,
    LiveRequest,
    LiveTokens,
    Probe,
    Request,
    Sampling,
    TransformersEngine,
)
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer
from tiny import load_tiny

WORDS = ("rain", "the sea", "a lighthouse and its keeper", "letters", "noon", "an old accountant", "me", "it")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(load_tiny("llama"), max_batch=4)


def unit(engine: TransformersEngine, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(engine.info.d_model).astype(np.float32)
    return drawn / np.linalg.norm(drawn)


def ask(engine: TransformersEngine, number: int, **changes) -> Request:
    """Every second request is sampled, every third under a cap that always fires."""
    axis = unit(engine, 0)
    request = Request(
        "chat",
        (Message("user", f"Tell me about {WORDS[number % len(WORDS)]}."),),
        Sampling(temperature=0.9 * (number % 2), max_new_tokens=6 + number, min_new_tokens=2),
        plan=Plan((Cap(1, axis, floor=3.0), Cap(2, axis, floor=3.0))) if number % 3 == 0 else None,
        probes=(Probe("axis", 2, axis), Probe("early", 1, axis)),
        seed=number,
    )
    return replace(request, **changes)


def finish(batch: LiveBatch) -> tuple[dict[LiveRequest, LiveEnd], dict[LiveRequest, list[LiveTokens]]]:
    ends: dict[LiveRequest, LiveEnd] = {}
    told: dict[LiveRequest, list[LiveTokens]] = {}
    while len(batch):
        for event in batch.step():
            if isinstance(event, LiveEnd):
                ends[event.live] = event
            else:
                told.setdefault(event.live, []).append(event)
    return ends, told


def test_requests_that_join_late_are_generated_as_alone(engine: TransformersEngine) -> None:
    batch = engine.open_batch()
    asked: list[LiveRequest] = []
    found: dict[LiveRequest, LiveEnd] = {}
    told: dict[LiveRequest, list[LiveTokens]] = {}
    for number in range(8):
        asked.append(batch.submit(ask(engine, number)))
        for event in batch.step():
            if isinstance(event, LiveEnd):
                found[event.live] = event
            else:
                told.setdefault(event.live, []).append(event)
    ends, later = finish(batch)
    found |= ends
    for live, events in later.items():
        told.setdefault(live, []).extend(events)
    for number, live in enumerate(asked):
        (alone,) = engine.run([ask(engine, number)])
        done = found[live].completion
        assert done is not None and done.token_ids == alone.token_ids and done.text == alone.text
        assert [t for event in told[live] for t in event.tokens] == list(alone.token_ids)
        after = np.array([row for event in told[live] for row in event.projections])
        np.testing.assert_allclose(after[:, 0], alone.projections["axis"], rtol=2e-4, atol=2e-4)
        assert done.cap_stats == alone.cap_stats or done.cap_stats.fired == alone.cap_stats.fired


def test_a_token_is_projected_before_and_after_the_cap(engine: TransformersEngine) -> None:
    batch = engine.open_batch()
    capped, plain = batch.submit(ask(engine, 0)), batch.submit(ask(engine, 1))
    _, told = finish(batch)
    before = np.array([row for event in told[capped] for row in event.before])
    after = np.array([row for event in told[capped] for row in event.projections])
    np.testing.assert_allclose(after[:, 0], np.maximum(before[:, 0], 3.0), atol=1e-5)
    assert (before[:, 1] < 3.0 - 1e-3).any()
    for event in told[plain]:
        assert event.before == event.projections


def test_a_request_that_leaves_frees_its_row_and_changes_no_other(engine: TransformersEngine) -> None:
    batch = engine.open_batch()
    asked = [batch.submit(ask(engine, number)) for number in range(6)]
    batch.step()
    batch.drop(asked[1])  # Runs.
    batch.drop(asked[5])  # Still waits: four run together.
    batch.drop(asked[5])
    assert len(batch) == 4
    ends, told = finish(batch)
    assert {asked[1], asked[5]}.isdisjoint(ends) and len(ends) == 4 and asked[5] not in told
    for number in (0, 2, 3, 4):
        (alone,) = engine.run([ask(engine, number)])
        done = ends[asked[number]].completion
        assert done is not None and done.token_ids == alone.token_ids


def test_a_request_that_cannot_be_honoured_is_refused_and_the_rest_goes_on(
    engine: TransformersEngine,
) -> None:
    batch = engine.open_batch()
    going = batch.submit(ask(engine, 0))
    with pytest.raises(EngineError, match="tokens, and the model reads"):
        batch.submit(ask(engine, 1, prompt=(Message("user", "word " * 3000),)))
    ends, _ = finish(batch)
    assert ends[going].completion is not None and batch.step() == []


def test_values_that_are_not_finite_end_one_request(engine: TransformersEngine) -> None:
    batch = engine.open_batch()
    bad = Plan((Steer(1, unit(engine, 0), 3e38), Steer(2, unit(engine, 0), 3e38)))
    broken, going = batch.submit(ask(engine, 1, plan=bad)), batch.submit(ask(engine, 2))
    ends, _ = finish(batch)
    assert ends[broken].completion is None and "not finite" in str(ends[broken].error)
    assert ends[going].completion is not None


def test_memory_that_runs_out_halves_the_batch(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = engine.open_batch()
    asked = [batch.submit(ask(engine, number)) for number in range(4)]
    first = batch.step()
    inner, failed = type(engine.loaded.stack).forward, []

    def forward(self, ids, **options):
        if len(ids) > 2 and not failed:
            failed.append(len(ids))
            raise torch.OutOfMemoryError("test")
        return inner(self, ids, **options)

    monkeypatch.setattr(type(engine.loaded.stack), "forward", forward)
    ends, told = finish(batch)
    assert failed == [4]
    for number, live in enumerate(asked):
        (alone,) = engine.run([ask(engine, number)])
        done = ends[live].completion
        assert done is not None and done.token_ids == alone.token_ids
        heard = [e for e in first if isinstance(e, LiveTokens) and e.live is live] + told[live]
        # A token that is generated anew is not told again.
        assert [t for event in heard for t in event.tokens] == list(alone.token_ids)


def test_an_error_of_the_whole_pass_ends_what_runs_and_not_the_batch(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = engine.open_batch()

    def broken(*_, **__):
        raise RuntimeError("a kernel failed")

    lost = batch.submit(ask(engine, 0))
    batch.step()
    with monkeypatch.context() as patched:
        patched.setattr(type(engine.loaded.stack), "forward", broken)
        (end,) = batch.step()
    assert isinstance(end, LiveEnd) and end.live is lost and "a kernel failed" in str(end.error)
    going = batch.submit(ask(engine, 0))
    ends, _ = finish(batch)
    assert ends[going].completion is not None
