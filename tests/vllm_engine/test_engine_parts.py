"""Plans that act on a part of a reply: vLLM acts on the tokens on which the Transformers engine acts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parts_case import SAMPLING, Pair, hold, plans, requests, run, vectors

from personascope.chat import Message
from personascope.engines import Capture, Probe, Request, ScoreRequest
from personascope.errors import EngineError
from personascope.interventions import Plan, Steer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

CALLS = Plan(
    (Steer(1, vectors()[3], 2.0, tokens="tool_calls"), Steer(2, vectors()[1], 1.0, tokens="thinking"))
)


def hold_all(both: Pair, wanted: list[Request]) -> list[str]:
    """Hold both engines' completions to each other, and return the ids of those that had all parts."""
    got, want = run(both.vllm, wanted), run(both.transformers, wanted)
    assert got.keys() == want.keys()
    for name, done in want.items():
        hold(got[name], done)
    return [name for name, done in want.items() if len({span.part for span in done.spans}) > 1]


def test_marks_of_several_tokens(tags):
    kinds = [None, *plans()]
    both = hold_all(tags, requests(kinds, 36))
    assert len(both) >= 6, "too few replies left their thinking"
    plain = [done.token_ids for done in run(tags.vllm, requests([None], 6)).values()]
    moved = [
        plan
        for plan in plans()
        if [done.token_ids for done in run(tags.vllm, requests([plan], 6)).values()] != plain
    ]
    assert len(moved) == len(plans())


def test_channels_in_chunks_and_after_preemptions(channels):
    before = channels.vllm.preemptions()
    kinds = [None, CALLS, *plans()]
    long = replace(SAMPLING, max_new_tokens=40, max_thinking_tokens=60)
    assert hold_all(channels, requests(kinds, 42, sampling=long))
    assert channels.vllm.preemptions() > before, "the test did not force a preemption"


def test_a_reply_that_never_leaves_its_thinking(tags):
    short = replace(SAMPLING, max_thinking_tokens=4)
    wanted = requests(plans()[:2], 12, start=100, sampling=short)
    hold_all(tags, wanted)
    done = run(tags.vllm, wanted)
    assert sum(not completion.left_thinking for completion in done.values()) >= 6


def test_a_plan_that_acts_on_no_token_of_a_reply_leaves_it_as_it_is(tags):
    plain, acted = (
        run(tags.vllm, [replace(r, plan=plan) for r in requests([None], 12, start=200)])
        for plan in (None, Plan((Steer(1, vectors()[0], 50.0, tokens="answer"),)))
    )
    stuck = [name for name, done in plain.items() if not done.left_thinking]
    assert stuck
    for name in stuck:
        assert acted[name].token_ids == plain[name].token_ids


def test_an_existing_reply_is_observed_under_a_plan_on_its_parts(tags):
    talk = (
        Message("user", "Who are you?"),
        Message("assistant", "A poet.", reasoning="Let me see."),
        Message("user", "And now?"),
        Message("assistant", "I am the sea.", reasoning="Hm, what am I?"),
    )
    probes = (Probe("p", 3, vectors()[0]),)
    for plan in plans():
        for tokens in ("answer", "thinking", "response"):
            options = {"capture": Capture(), "probes": probes, "plan": plan, "tokens": tokens}
            got, want = tags.vllm.observe(talk, **options), tags.transformers.observe(talk, **options)
            for a, b in zip(got, want, strict=True):
                assert a.token_count == b.token_count
                if b.pooled is not None:
                    np.testing.assert_allclose(a.pooled, b.pooled, atol=1e-3)
                np.testing.assert_allclose(a.projections["p"], b.projections["p"], atol=1e-2)


def test_what_has_no_parts_is_refused(tags):
    (plan, answer) = plans()[:2]
    with pytest.raises(EngineError, match="thinking of a reply"):
        list(tags.vllm.run([Request("ids", (5, 6, 7), SAMPLING, plan=plan)]))
    (done,) = tags.vllm.run([Request("ids", (5, 6, 7), SAMPLING, plan=answer)])
    (other,) = tags.transformers.run([Request("ids", (5, 6, 7), SAMPLING, plan=answer)])
    hold(done, other)
    with pytest.raises(EngineError, match="parts of a continuation"):
        list(tags.vllm.score([ScoreRequest("s", (Message("user", "Hi"),), (5, 6), plan)]))
    bare = {"personascope": {"key": "bare", "plan": tags.vllm.register(plan)}}
    from vllm import SamplingParams

    (output,) = tags.vllm.llm.generate(
        [{"prompt_token_ids": [5, 6, 7]}], SamplingParams(extra_args=bare), use_tqdm=False
    )
    assert output.outputs[0].finish_reason == "error"
    assert "does not say how the parts" in output.outputs[0].stop_reason
