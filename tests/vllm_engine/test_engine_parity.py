"""The vLLM engine against the Transformers engine: same request, same plan, same completion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vllm_case import check_equal, close, plans, requests

from personascope.chat import Message
from personascope.engines import Capture, Probe, Request, Sampling, ScoreRequest
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")


def by_id(completions):
    return {completion.id: completion for completion in completions}


def test_mixed_batch_equals_the_reference(vllm_engine, reference):
    wanted = requests(576, 30)
    got, want = by_id(vllm_engine.run(wanted)), by_id(reference.run(wanted))
    assert got.keys() == want.keys()
    for name in want:
        check_equal(got[name], want[name], 1e-5)


def test_what_caps_did_is_counted_alike(vllm_engine, reference):
    # A prompt that is in no cache: what is taken from the cache passes nothing, and is not counted.
    wanted = [
        replace(request, prompt=(Message("user", f"{n} times: {request.prompt[1].content}"),))
        for n, request in enumerate(requests(576, 30))
        if request.plan is not None and all(not op.tokens.startswith("turn") for op in request.plan.ops)
    ]
    got, want = by_id(vllm_engine.run(wanted)), by_id(reference.run(wanted))
    for name in want:
        assert got[name].token_ids == want[name].token_ids
        a, b = got[name].cap_stats, want[name].cap_stats
        assert (a.tokens, a.capped_tokens, a.fired) == (b.tokens, b.capped_tokens, b.fired)
        assert a.max_moved == pytest.approx(b.max_moved, rel=1e-4)
        assert a.moved == pytest.approx(b.moved, rel=1e-3, abs=1e-6)


def test_sampled_tokens_are_the_reference_s(vllm_engine, reference):
    wanted = requests(576, 30, temperature=0.7)
    got, want = by_id(vllm_engine.run(wanted)), by_id(reference.run(wanted))
    same = [name for name in want if got[name].token_ids == want[name].token_ids]
    # Rounding may carry a number over the edge of a token; never more than now and then.
    assert len(same) >= len(want) - 2
    for name in same:
        check_equal(got[name], want[name], 1e-5)


def test_sampling_does_not_depend_on_the_batch(vllm_engine):
    wanted = requests(576, 30, temperature=1.0, count=6)
    together = by_id(vllm_engine.run(wanted))
    for request in wanted:
        (alone,) = vllm_engine.run([request])
        assert alone.token_ids == together[request.id].token_ids


def test_chunks_and_preemption_change_nothing(tight_engine, reference):
    wanted = [
        replace(r, sampling=replace(r.sampling, max_new_tokens=60)) for r in requests(576, 30, count=20)
    ]
    before = tight_engine.preemptions()
    got, want = by_id(tight_engine.run(wanted)), by_id(reference.run(wanted))
    assert tight_engine.preemptions() > before, "the test did not force a preemption"
    for name in want:
        check_equal(got[name], want[name], 1e-5)


def test_plain_and_planned_requests_never_share_a_cache(vllm_engine, reference):
    rng = np.random.default_rng(1)
    kinds = [None, *plans(576, 30)[:4], plans(576, 30)[5]]
    shared = (
        "You are the keeper of a lighthouse on a rock in the northern sea, and you have been alone for years."
    )
    talks = [
        (Message("system", shared), Message("user", text))
        for text in ("Who are you?", "Who are you, and what do you do all day?", "What is that light?")
    ]
    sampling = Sampling(temperature=0, max_new_tokens=8)
    lone = {
        (talk, kind): next(iter(reference.run([Request("x", talks[talk], sampling, plan=kinds[kind])])))
        for talk in range(len(talks))
        for kind in range(len(kinds))
    }
    order = [(int(rng.integers(len(talks))), int(rng.integers(len(kinds)))) for _ in range(100)]
    while order:
        count = int(rng.integers(1, 12))
        part, order = order[:count], order[count:]
        wanted = [
            Request(f"{n}", talks[talk], sampling, plan=kinds[kind]) for n, (talk, kind) in enumerate(part)
        ]
        got = by_id(vllm_engine.run(wanted))
        for n, key in enumerate(part):
            assert got[f"{n}"].token_ids == lone[key].token_ids, (key, part)


def test_conversations_are_observed_alike(vllm_engine, reference):
    talk = (
        Message("system", "You are a pirate."),
        Message("user", "Who are you?"),
        Message("assistant", "Arr, the terror of the seven seas."),
        Message("user", "And what do you want?"),
        Message("assistant", ""),
        Message("user", "Speak."),
        Message("assistant", "Gold, and the wind behind me."),
    )
    probes = tuple(Probe(f"p{at}", at, np.eye(576, dtype=np.float32)[at]) for at in (3, 17))
    for plan in (None, *plans(576, 30)):
        options = {"capture": Capture(norms=True), "probes": probes, "plan": plan}
        got, want = vllm_engine.observe(talk, **options), reference.observe(talk, **options)
        assert [turn.token_count for turn in got] == [turn.token_count for turn in want]
        for a, b in zip(got, want, strict=True):
            assert (a.index, a.role) == (b.index, b.role)
            assert (a.pooled is None) == (b.pooled is None)
            if b.pooled is not None:
                assert close(a.pooled, b.pooled, 1e-5)
                assert np.allclose(a.norms, b.norms, rtol=1e-4)
            for name, values in b.projections.items():
                assert np.allclose(a.projections[name], values, atol=2e-3), (plan, name)


def test_continuations_are_scored_alike(vllm_engine, reference):
    encode = reference.encode
    wanted = [
        ScoreRequest(f"{n}{kind}", (Message("user", f"Name the capital of {land}."),), encode(text), plan)
        for n, (land, text) in enumerate((("France", "Paris."), ("Italy", "It is Rome"), ("Spain", "Tea")))
        for kind, plan in (("plain", None), ("capped", plans(576, 30)[0]), ("steered", plans(576, 30)[1]))
    ]
    got = {scored.id: scored for scored in vllm_engine.score(wanted)}
    for want in reference.score(wanted):
        assert np.allclose(got[want.id].logprobs, want.logprobs, atol=1e-4)
        assert (got[want.id].greedy, got[want.id].plan_digest) == (want.greedy, want.plan_digest)


def test_generation_gives_the_log_probabilities_that_scoring_gives(vllm_engine, reference):
    wanted = [replace(request, logprobs=True) for request in requests(576, 30, temperature=0.7, count=8)]
    got = by_id(vllm_engine.run(wanted))
    assert any(completion.plan_digest for completion in got.values())
    for request in wanted:
        completion = got[request.id]
        assert completion.logprobs.shape == (len(completion.token_ids),)
        (want,) = reference.score(
            [ScoreRequest(request.id, request.prompt, completion.token_ids, request.plan)]
        )
        np.testing.assert_allclose(completion.logprobs, want.logprobs, atol=1e-3)


def test_what_is_longer_than_the_engine_reads_is_refused(tight_engine):
    most = tight_engine.info.context
    assert most == 511
    fits = ScoreRequest("fits", tuple(range(5, 4 + most)), (5,))
    (scored,) = tight_engine.score([fits])
    assert np.isfinite(scored.logprobs).all()
    long = ScoreRequest("long", tuple(range(5, 5 + most)), (5,), plans(576, 30)[0])
    with pytest.raises(EngineError, match="vLLM refuses request 'long'"):
        list(tight_engine.score([replace(long, id="first", prompt=(5, 6, 7)), long]))
    # What went before the refused one is taken back.
    list(tight_engine.score([fits]))
    stats = tight_engine.stats()
    assert stats["requests"] == stats["results"] == 0


def test_stop_texts_end_a_response_alike(vllm_engine, reference):
    kinds = (None, *plans(576, 30)[:2])
    asked = [(text, plan) for text in ("Who are you?", "Tell me of rain.") for plan in kinds]
    wanted = [
        Request(
            f"s{n}",
            (Message("user", question),),
            Sampling(temperature=0, max_new_tokens=60, stop=(".", "\n\n")),
            capture=Capture(),
            plan=plan,
        )
        for n, (question, plan) in enumerate(asked)
    ]
    got, want = by_id(vllm_engine.run(wanted)), by_id(reference.run(wanted))
    assert any(completion.finish_reason == "stop" for completion in want.values())
    for name in want:
        check_equal(got[name], want[name], 1e-5)


def test_plain_requests_are_the_stock_engine_s_bit_for_bit(vllm_engine, stock):
    """Also beside planned ones, in one batch: the log-probabilities of the stock engine, every bit."""
    from vllm import SamplingParams

    digest = vllm_engine.register(plans(576, 30)[0])
    texts = [f"{n} ships. {question}" for n in range(4) for question in ("Who are you?", "What is rain?")]
    prompts = [{"prompt_token_ids": list(vllm_engine.encode(text))} for text in texts]

    def logprobs(llm, specs):
        params = [
            SamplingParams(
                temperature=0,
                max_tokens=12,
                logprobs=1,
                extra_args=None if spec is None else {"personascope": spec},
            )
            for spec in specs
        ]
        done = llm.generate(prompts, params, use_tqdm=False)
        return [
            [(token, row[token].logprob) for token, row in zip(o.token_ids, o.logprobs, strict=True)]
            for o in (output.outputs[0] for output in done)
        ]

    want = logprobs(stock, [None] * 8)
    assert logprobs(vllm_engine.llm, [None] * 8) == want
    mixed = [{"key": f"bit{n}", "plan": digest, "pool": True} if n % 2 else None for n in range(8)]
    got = logprobs(vllm_engine.llm, mixed)
    assert got[::2] == want[::2]
    assert all(a != b for a, b in zip(got[1::2], want[1::2], strict=True))
    vllm_engine.llm.collective_rpc("personascope_drop", args=([f"bit{n}" for n in range(8)],))


def test_an_abandoned_run_leaves_nothing(vllm_engine):
    wanted = requests(576, 30, count=20)
    run = vllm_engine.run(wanted)
    next(run)
    run.close()
    assert len(list(vllm_engine.run(wanted[:3]))) == 3
    stats = vllm_engine.stats()
    assert stats["requests"] == stats["results"] == 0
    assert stats["slots"] == stats["free_slots"]
    assert stats["cap_counts"] == stats["free_cap_counts"]


def test_observing_while_a_run_is_open(vllm_engine):
    wanted = requests(576, 30, count=12)
    talk = (Message("user", "Who are you?"), Message("assistant", "A mill by the river."))
    lone = vllm_engine.observe(talk, capture=Capture())
    seen = []
    for completion in vllm_engine.run(wanted):
        seen.append(completion.id)
        inside = vllm_engine.observe(talk, capture=Capture())
        assert close(inside[1].pooled, lone[1].pooled, 1e-5)
    assert sorted(seen) == sorted(request.id for request in wanted)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan((Cap(30, np.ones(576, np.float32), floor=0.0),)), "acts at layer 30"),
        (Plan((Cap(3, np.ones(64, np.float32), floor=0.0),)), "width 64"),
    ],
)
def test_an_impossible_plan_is_refused(vllm_engine, plan, says):
    with pytest.raises(EngineError, match=says):
        list(vllm_engine.run([Request("x", (Message("user", "Hi"),), plan=plan)]))
