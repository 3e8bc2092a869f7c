"""The plugin under ``vllm.LLM`` itself, used without our engine: bad specs, samples, salts, a soak."""

from __future__ import annotations

import json

import numpy as np
import psutil
import pytest
from vllm_case import plans

from personascope.engines import Probe, load_engine
from personascope.interventions import Cap, Plan

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    from folder_case import saved

    made = load_engine(
        str(saved("llama", tmp_path_factory.mktemp("llama"))), engine="vllm", dtype="float32", max_batch=128
    )
    yield made
    made.close()


def put(engine, value) -> str:
    return engine.register(value)


def generate(engine, spec, *, tokens=(5, 6, 7, 8), **options):
    from vllm import SamplingParams

    params = SamplingParams(
        **{
            "temperature": 0,
            "max_tokens": 6,
            "ignore_eos": True,
            "extra_args": None if spec is None else {"personascope": spec},
            **options,
        }
    )
    (output,) = engine.llm.generate([{"prompt_token_ids": list(tokens)}], params, use_tqdm=False)
    return output


def fetch(engine, key):
    from personascope.engines._vllm.request._results import read_results

    return read_results(engine.llm.collective_rpc("personascope_fetch", args=([key],)))[key]


BAD = {
    "no object": [1],
    "no JSON": "{",
    "unknown field": {"key": "a", "plam": "x"},
    "no key": {"plan": "0" * 64},
    "empty span": {"key": "a", "pool": True, "spans": [[4, 4]]},
    "negative layer": {"key": "a", "pool": True, "layers": [-1]},
    "no layer": {"key": "a", "pool": True, "layers": []},
    "norms alone": {"key": "a", "norms": True},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_malformed_is_refused_in_the_front_end(engine, bad):
    with pytest.raises(Exception, match="personascope"):
        generate(engine, bad)


def impossible(engine):
    wide = Plan((Cap(1, np.ones(32, np.float32), floor=0.0),))
    deep = Plan((Cap(9, np.ones(64, np.float32), floor=0.0),))
    turn = Plan((Cap(1, np.ones(64, np.float32), floor=0.0, tokens="turn:2"),))
    from personascope.engines._vllm.request._plan_store import ProbeSet

    probes = ProbeSet.of((Probe("x", 1, np.ones(32, np.float32)),))
    return {
        "unknown plan": {"key": "a", "plan": "0" * 64},
        "a path for a plan": {"key": "a", "plan": "../../../etc"},
        "width": {"key": "a", "plan": put(engine, wide)},
        "layer": {"key": "a", "plan": put(engine, deep)},
        "turns": {"key": "a", "plan": put(engine, turn), "turns": [0]},
        "unknown probes": {"key": "a", "probes": "1" * 64},
        "probes of another width": {"key": "a", "probes": put(engine, probes)},
        "a layer that is not there": {"key": "a", "pool": True, "layers": [4]},
    }


def test_impossible_is_refused_before_it_runs(engine):
    for name, spec in impossible(engine).items():
        sample = generate(engine, spec).outputs[0]
        assert sample.finish_reason == "error", name
        assert list(sample.token_ids) == [], name
        assert "->" in sample.stop_reason, name
    # The engine lives, and so does the next request with that key.
    assert len(generate(engine, {"key": "a", "pool": True}).outputs[0].token_ids) == 6
    assert fetch(engine, "a").counts == [5]


def test_a_spec_may_be_a_json_text(engine):
    generate(engine, json.dumps({"key": "text", "pool": True, "layers": [1]}))
    assert fetch(engine, "text").layers == [1]


def test_results_are_fetched_once(engine):
    generate(engine, {"key": "once", "pool": True})
    fetch(engine, "once")
    with pytest.raises(Exception, match="no results of request 'once'"):
        fetch(engine, "once")


def test_each_sample_has_its_own_results(engine):
    spec = {"key": "many", "pool": True, "samples": 3}
    output = generate(engine, spec, n=3, temperature=1.0, seed=3)
    assert len(output.outputs) == 3
    sums = [fetch(engine, f"many#{number}").sums for number in range(3)]
    assert not np.allclose(sums[0], sums[1])


def test_samples_that_are_not_announced_are_refused(engine):
    output = generate(engine, {"key": "sly", "pool": True}, n=2, temperature=1.0)
    assert sorted(sample.finish_reason for sample in output.outputs) == ["error", "length"]
    fetch(engine, "sly")


def test_a_plan_salts_the_cache_by_itself(engine):
    prompt = tuple(int(t) for t in np.random.default_rng(5).integers(5, 300, 96))
    digest = put(engine, plans(64, 4, 0.1)[1])
    plain = generate(engine, None, tokens=prompt).outputs[0].token_ids
    planned = generate(engine, {"key": "p1", "plan": digest}, tokens=prompt).outputs[0].token_ids
    again = generate(engine, None, tokens=prompt).outputs[0].token_ids
    third = generate(engine, {"key": "p2", "plan": digest}, tokens=prompt)
    assert plain == again
    assert planned == third.outputs[0].token_ids != plain
    # The plan's own cache serves it.
    assert third.num_cached_tokens >= 64
    assert fetch(engine, "p1").plan == fetch(engine, "p2").plan == digest


def test_soak(engine):
    """5,000 requests with random plans, bad specs and aborts leave nothing; every bad spec is refused."""
    from vllm import SamplingParams

    rng = np.random.default_rng(0)
    digests = [put(engine, plan) for plan in plans(64, 4, 0.1)[:4]]
    bad = list(impossible(engine).values())
    core = engine.llm.llm_engine
    process = psutil.Process()
    sent = refused = finished = aborted = expected_bad = 0
    alive: dict[str, dict] = {}
    memory = []
    number = 0
    while number < 5000 or alive:
        while number < 5000 and len(alive) < 200:
            name = f"soak{number}"
            kind = int(rng.integers(10))
            spec: dict | None = {"key": name}
            if kind == 0:
                spec = {**bad[int(rng.integers(len(bad)))], "key": name}
            elif kind < 7:
                spec |= {"plan": digests[int(rng.integers(4))], "pool": kind % 2 == 0}
            elif kind < 9:
                spec |= {"pool": True}
            else:
                spec = None
            params = SamplingParams(
                temperature=0,
                max_tokens=int(rng.integers(1, 9)),
                ignore_eos=True,
                detokenize=False,
                extra_args=None if spec is None else {"personascope": spec},
            )
            tokens = [int(t) for t in rng.integers(5, 300, int(rng.integers(4, 40)))]
            core.add_request(name, {"prompt_token_ids": tokens}, params)
            alive[name] = {"spec": spec, "bad": kind == 0}
            expected_bad += kind == 0
            sent += 1
            number += 1
        if alive and rng.random() < 0.1:
            victims = [name for name in alive if not alive[name]["bad"]][:2]
            core.abort_request(victims)
            keys = [name for name in victims if alive[name]["spec"] is not None]
            core.collective_rpc("personascope_drop", args=(keys,))
            for name in victims:
                del alive[name]
                aborted += 1
        done = [output for output in core.step() if output.finished and output.request_id in alive]
        keys = []
        for output in done:
            item = alive.pop(output.request_id)
            if output.outputs[0].finish_reason == "error":
                assert item["bad"]
                refused += 1
            else:
                assert not item["bad"]
                finished += 1
                if item["spec"] is not None:
                    keys.append(output.request_id)
        if keys:
            core.collective_rpc("personascope_fetch", args=(keys,))
        if number % 1000 == 0:
            memory.append(process.memory_info().rss)
    assert refused == expected_bad
    assert sent == 5000 == refused + finished + aborted
    generate(engine, None)
    stats = engine.stats()
    assert stats["requests"] == stats["results"] == stats["dropped"] == 0
    # More than the tables begin with, so that they grew, and no more than ever ran side by side.
    assert 64 < stats["slots"] == stats["free_slots"] <= 256
    assert 64 < stats["cap_counts"] == stats["free_cap_counts"] <= 128
    assert stats["plans"] <= 8
    assert memory[-1] - memory[0] < 100e6
