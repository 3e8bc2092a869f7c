"""A gate inside vLLM: what a monitor's alarm does in a reply is what it does in the Transformers engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from parts_case import LAYERS, SAMPLING, Pair, hold, plans, requests, run, vectors

from personascope.dynamics.monitor import Cusum, Monitor, MonitorBaseline, Threshold
from personascope.engines import Request, Sampling
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

v = vectors()
GATES: tuple[Any, ...] = (
    Plan((Cap(1, v[0], floor=1.5), Cap(2, v[0], floor=2.0))),
    Plan((Steer(0, v[2], 4.0, tokens="response"),)),
    "stop",
    Plan((Steer(1, v[1], 3.0, tokens="answer"), Cap(3, v[3], ceiling=-0.5, tokens="thinking"))),
    None,
)


def rule(number: int) -> Cusum | Threshold:
    """Return a rule that raises an alarm in most replies, at different tokens."""
    if number % 2:
        return Threshold("token", 0.2 * (number % 3) - 0.1, window=1 + number % 5)
    base = MonitorBaseline(
        "token",
        by_token=(0.4, 0.1, 0.0),
        by_reply=(0.05, -0.05),
        spread=(0.5, 0.8),
        warmup=2 + number % 3,
        persistence=0.6,
        residual_sd=0.9,
        conversations=9,
    )
    return Cusum(base, threshold=0.5 + number % 3, allowance=0.1)


def watched(wanted: list[Request], seed: int = 0) -> tuple[list[Request], list[Monitor]]:
    """Return requests with a monitor each, on the probe "a" at layer 1."""
    monitors: list[Monitor] = []
    made: list[Request] = []
    for number, request in enumerate(wanted):
        monitor = Monitor(
            rule(number + seed), layer=1, probe="a", units=(-0.5, 2.5), on_alarm=GATES[number % len(GATES)]
        )
        probes = requests([None], 2)[1].probes
        monitors.append(monitor)
        made.append(replace(request, probes=probes, watch=monitor.watch(), tokens=tokens_of(request)))
    return made, monitors


def tokens_of(request: Request) -> str:
    return request.tokens if request.tokens in ("answer", "thinking", "response") else "response"


def hold_gates(both: Pair, wanted: list[Request], seed: int = 0) -> list[Any]:
    """Hold replies, gates and monitors of both engines to each other; return the completions."""
    ours, our_monitors = watched(wanted, seed)
    theirs, their_monitors = watched(wanted, seed)
    got, want = run(both.vllm, ours), run(both.transformers, theirs)
    for name, done in want.items():
        hold(got[name], done)
    for one, other in zip(our_monitors, their_monitors, strict=True):
        assert (one.n, one.alarmed_at, one.stopped) == (other.n, other.alarmed_at, other.stopped)
        # The projections agree to the engines' noise, and so do the statistics.
        assert [(e.kind, e.token, e.reply) for e in one.events] == [
            (e.kind, e.token, e.reply) for e in other.events
        ]
        np.testing.assert_allclose(
            [e.statistic for e in one.events], [e.statistic for e in other.events], atol=1e-2
        )
    return [got[request.id] for request in wanted]


def test_gates_and_stops_are_those_of_the_transformers_engine(tags):
    wanted = requests([None, *plans()], 40, start=300)
    done = hold_gates(tags, wanted)
    assert sum(completion.gate is not None for completion in done) >= 10
    assert sum(completion.finish_reason == "alarm" for completion in done) >= 4
    tokens = {completion.gate.token for completion in done if completion.gate is not None}
    assert len(tokens) >= 4, "the alarms came at too few places"
    plain = run(tags.vllm, wanted)
    changed = [c for c in done if c.gate is not None and c.token_ids != plain[c.id].token_ids]
    assert len(changed) >= 5
    for completion in changed:
        # The token at which it acts first was drawn before.
        assert (
            completion.token_ids[: completion.gate.token]
            == plain[completion.id].token_ids[: completion.gate.token]
        )
    stats = tags.vllm.stats()
    assert stats["requests"] == stats["results"] == 0
    assert stats["cap_counts"] == stats["free_cap_counts"]


def test_gates_hold_through_chunks_and_preemptions(channels):
    before = channels.vllm.preemptions()
    long = replace(SAMPLING, max_new_tokens=40, max_thinking_tokens=60)
    done = hold_gates(channels, requests([None, *plans()], 40, start=400, sampling=long), seed=1)
    assert channels.vllm.preemptions() > before, "the test did not force a preemption"
    assert sum(completion.gate is not None for completion in done) >= 8


def test_a_gate_lasts_over_the_turns_of_a_conversation(tags):
    """The monitor's state goes on from reply to reply, and the gate is asked for again in each."""
    seen = []
    for engine in (tags.vllm, tags.transformers):
        monitor = Monitor(rule(2), layer=1, probe="a", units=(-0.5, 2.5), on_alarm=GATES[0])
        replies = []
        for request in requests([None], 5, start=500):
            alarmed = monitor.alarmed_at is not None
            ask = replace(
                request, probes=requests([None], 2)[1].probes, tokens="response", watch=monitor.watch()
            )
            (completion,) = engine.run([ask])
            replies.append((completion.token_ids, completion.gate and completion.gate.token))
            # After an alarm the gate is asked for again behind the first token of every reply.
            assert not alarmed or (completion.gate is not None and completion.gate.token == 1)
        seen.append((replies, monitor.n, monitor.alarmed_at))
    assert seen[0] == seen[1]
    assert sum(gate is not None for _, gate in seen[0][0]) >= 2


def test_sampled_gates_are_the_same_too(tags):
    hot = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=18, max_thinking_tokens=30)
    wanted = requests([None, *plans()], 18, start=600, sampling=hot)
    ours, _ = watched(wanted)
    theirs, _ = watched(wanted)
    got, want = run(tags.vllm, ours), run(tags.transformers, theirs)
    same = [name for name in want if got[name].token_ids == want[name].token_ids]
    assert len(same) >= len(want) - 2
    for name in same:
        hold(got[name], want[name])


def test_what_cannot_be_said_in_advance_is_refused(tags):
    (base,) = (r for r in requests([None], 2) if r.probes)
    monitor = Monitor(rule(0), layer=1, probe="a", units=(0.0, 1.0), on_alarm=lambda _state: GATES[0])
    for watch in (monitor.watch(), lambda _token, _values: None):
        with pytest.raises(EngineError, match="which the vllm engine does not have"):
            list(tags.vllm.run([replace(base, watch=watch)]))
    elsewhere = Plan((Steer(LAYERS, v[0], 1.0),))
    wrong = Monitor(rule(0), layer=1, probe="a", units=(0.0, 1.0), on_alarm=elsewhere)
    with pytest.raises(EngineError, match=f"acts at layer {LAYERS}"):
        list(tags.vllm.run([replace(base, tokens="response", watch=wrong.watch())]))
    absent = Monitor(rule(0), layer=1, probe="c", units=(0.0, 1.0), on_alarm="stop")
    with pytest.raises(EngineError, match="probe 'c'"):
        list(tags.vllm.run([replace(base, tokens="response", watch=absent.watch())]))


def test_the_worker_is_held_to_the_watch(tags, monkeypatch):
    """If the worker did not do what the watch asks for, the completion is not used."""
    from personascope.engines._gate import AlarmState

    (base,) = (r for r in requests([None], 2, start=700) if r.probes)
    monitor = Monitor(Threshold("token", 1e6), layer=1, probe="a", units=(0.0, 1.0), on_alarm=GATES[0])
    ask = replace(base, tokens="response", watch=monitor.watch())
    monkeypatch.setattr(AlarmState, "update", lambda _self, _value: False)
    with pytest.raises(EngineError, match=r"asked for .* and the worker did None"):
        list(tags.vllm.run([ask]))
