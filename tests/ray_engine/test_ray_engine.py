"""Two workers against one engine in this process: the same completions, whoever made them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ray_case import by_id, check_same, requests

from personascope.chat import Message
from personascope.engines import Capture, Engine, Probe, Request, Sampling, ScoreRequest, load_engine
from personascope.engines._ray import RayEngine
from personascope.engines._ray._pool import Pool
from personascope.errors import ChatError, EngineError, ModelError, UsageError

pytest.importorskip("ray", reason="Ray is not installed here; make test has an environment with it")


def test_two_workers_give_what_one_engine_gives(spread, local):
    assert isinstance(spread, RayEngine) and isinstance(spread, Engine)
    assert spread.workers == 2 and len(set(spread.pids)) == 2
    wanted = requests(90)
    check_same(by_id(spread.run(wanted)), by_id(local.run(wanted)))


def test_sampled_tokens_do_not_depend_on_the_worker(spread, local):
    wanted = requests(60, temperature=0.9)
    got, want = by_id(spread.run(wanted)), by_id(local.run(wanted))
    same = [name for name in want if got[name].token_ids == want[name].token_ids]
    # Rounding may carry a number over the edge of a token; never more than now and then.
    assert len(same) >= len(want) - 1


def test_both_workers_take_part(spread, monkeypatch):
    from personascope.engines._ray._pool import Pool

    seen: dict[int, int] = {}
    answer = Pool.result_of

    def reply(self, hand, actor, ref):
        got = answer(self, hand, actor, ref)
        seen[got.pid] = seen.get(got.pid, 0) + len(got.results)
        return got

    monkeypatch.setattr(Pool, "result_of", reply)
    assert len(by_id(spread.run(requests(80)))) == 80
    assert len(seen) == 2 and min(seen.values()) >= 20


def test_info_and_tokens_are_those_of_the_engine_inside(spread, local):
    assert spread.info == local.info
    assert spread.encode("A pirate", special=True) == local.encode("A pirate", special=True)
    tokens = local.encode("A pirate")
    assert spread.decode(tokens) == local.decode(tokens) and "pirate" in spread.decode(tokens)
    talk = (Message("user", "Who are you?"),)
    assert spread.count_tokens(talk) == local.count_tokens(talk)
    other, same = spread.with_transcript(), local.with_transcript()
    assert other.info == same.info != spread.info
    request = Request("t", talk, Sampling(temperature=0, max_new_tokens=12), capture=Capture())
    check_same(by_id(other.run([request])), by_id(same.run([request])))


def test_conversations_are_observed_alike(spread, local):
    talk = (Message("user", "Who are you?"), Message("assistant", "Arr."), Message("user", "Sing."))
    plan = requests(3)[1].plan
    options = {"capture": Capture((1, 3), norms=True), "plan": plan}
    for a, b in zip(spread.observe(talk, **options), local.observe(talk, **options), strict=True):
        assert (a.index, a.role, a.token_count) == (b.index, b.role, b.token_count)
        assert np.allclose(a.pooled, b.pooled, rtol=1e-5, atol=1e-6)
        assert np.allclose(a.norms, b.norms, rtol=1e-5)
    with pytest.raises(EngineError, match="layer 9"):
        spread.observe(talk, capture=Capture((9,)))


def test_continuations_are_scored_alike(spread, local):
    wanted = [
        ScoreRequest(request.id, request.prompt, local.encode(f"It is {n}, and fine."), request.plan)
        for n, request in enumerate(requests(50))
    ]
    got = by_id(spread.score(wanted))
    for want in local.score(wanted):
        assert np.allclose(got.pop(want.id).logprobs, want.logprobs, atol=1e-4)
    assert not got


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"capture": Capture((9,))}, EngineError, "request 'r5' reads layer 9"),
        ({"sampling": Sampling(max_new_tokens=0)}, EngineError, "0 to 0 new tokens"),
        ({"prompt": (Message("user", "Hm."), Message("system", "Ho."))}, ChatError, "late system message"),
        ({"id": "r4"}, EngineError, "two requests are called 'r4'"),
    ],
)
def test_a_bad_request_raises_here_what_it_raises_there(spread, local, change, error, words):
    wanted = requests(12)
    wanted[5] = replace(wanted[5], **change)
    with pytest.raises(error, match=words) as caught:
        list(spread.run(wanted))
    assert type(caught.value) is error and caught.value.hint
    if "id" not in change:
        with pytest.raises(error) as own:
            list(local.run(wanted))
        assert (own.value.message, own.value.hint) == (caught.value.message, caught.value.hint)
    # The workers are none the worse for it.
    check_same(by_id(spread.run(requests(6))), by_id(local.run(requests(6))))


def test_the_source_is_read_as_far_as_there_is_room(spread):
    read = 0

    def source() -> Iterator[Request]:
        nonlocal read
        for number in range(5000):
            read += 1
            yield Request(f"s{number}", (5, 6, 7, 8 + number % 90), Sampling(temperature=0, max_new_tokens=2))

    completions = spread.run(source())
    for taken in range(1, 41):
        next(completions)
        time.sleep(0.005)
        # One window read ahead, the rest of the one before, and what two workers hold.
        assert read <= taken + 1024 + 4 + 2 * 16
    completions.close()
    assert read < 5000
    # What was given up does not come up again.
    assert sorted(by_id(spread.run(requests(4)))) == ["r0", "r1", "r2", "r3"]


def test_runs_inside_one_another(spread, local):
    wanted = requests(60)
    outer = spread.run(wanted)
    got = [next(outer)]
    inner = by_id(spread.run(requests(30, tokens=6)))
    assert len(spread.observe((Message("user", "Sing."),), capture=Capture((1,)))) == 1
    check_same(inner, by_id(local.run(requests(30, tokens=6))))
    check_same(by_id([*got, *outer]), by_id(local.run(wanted)))


def test_what_cannot_be_started_says_so(model, tmp_path):
    with pytest.raises(UsageError, match="0 workers"):
        load_engine(model, workers=0)
    with pytest.raises(ModelError):
        load_engine(str(tmp_path / "nowhere"), workers=2)


def test_a_worker_takes_a_gpu_for_each_part_of_its_model():
    pool = Pool.__new__(Pool)
    pool._local = True
    pool.ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 8.0})
    sizes = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    pool._resources(sizes, 2, None)
    assert pool.gpus == 4
    with pytest.raises(EngineError, match="3 workers need 12 GPUs, and Ray has 8"):
        pool._resources(sizes, 3, None)
    pool._resources({**sizes, "device": "cpu"}, 3, None)
    assert pool.gpus == 0


def test_an_engine_that_cannot_load_in_a_worker_raises_its_own_error(spread, model):
    with pytest.raises(EngineError, match="workers need 1000 GPUs"):
        load_engine(model, workers=2, gpus_per_worker=500)
    with pytest.raises(UsageError, match="float99"):
        load_engine(model, workers=1, address="local", dtype="float99")
    assert len(by_id(spread.run(requests(2)))) == 2


def test_an_address_where_nobody_is_says_so(model):
    code = (
        "import sys\nfrom personascope.engines import load_engine\n"
        "from personascope.errors import EngineError\n"
        "try: load_engine(sys.argv[1], workers=2, address='127.0.0.1:1')\n"
        "except EngineError as error: sys.exit(0 if '127.0.0.1:1' in error.message and error.hint else 2)\n"
        "sys.exit(3)"
    )
    # A process of its own: in this one Ray runs already.
    done = subprocess.run([sys.executable, "-c", code, model], timeout=120, check=False)
    assert done.returncode == 0


def test_ray_is_imported_by_nobody_who_does_not_use_it():
    code = "import sys, personascope.engines, personascope.cli; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_watch_is_refused_by_name(spread):
    probe = Probe("p", 0, np.ones(spread.info.d_model, np.float32))
    watched = Request("r", (Message("user", "Hi."),), probes=(probe,), watch=lambda *_: None)
    with pytest.raises(EngineError, match=r"a watch .* which the ray engine does not have"):
        list(spread.run([watched]))
