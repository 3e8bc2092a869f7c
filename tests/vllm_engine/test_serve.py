"""A real server, started by the command that ``personascope serve`` prints, and the official client."""

from __future__ import annotations

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from serve_case import (
    KEY,
    MODEL,
    PROBES,
    QUESTION,
    Served,
    ask,
    near,
    quiet,
    serve,
    start,
    stop,
    token_ids,
    wanted,
)
from vllm_case import directions, plans

from personascope.chat import Message
from personascope.engines import Capture, Request, Sampling
from personascope.interventions import Cap, Plan, Steer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")
openai = pytest.importorskip("openai", reason="openai comes with vLLM")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    plans(576, 30)[0].save(folder / "given")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = serve(
        *(MODEL, "--port", port, "--api-key", KEY, "--dtype", "float32", "--plan-store", folder / "plans"),
        *(
            "--plan",
            folder / "given",
            "--default-plan",
            "none",
            "--",
            "--max-model-len",
            1024,
            "--max-num-seqs",
            16,
        ),
    )
    assert ran.returncode == 0, ran.stderr
    assert plans(576, 30)[0].digest in ran.stderr
    url = f"http://127.0.0.1:{port}"
    process = start(ran.stdout.strip(), folder / "log", url)
    yield Served(url, folder / "log", folder / "plans")
    stop(process)


@pytest.fixture(scope="module")
def probes(served) -> str:
    body = [{"name": p.name, "layer": p.layer, "direction": p.direction.tolist()} for p in PROBES]
    answer = served.http("POST", "/v1/personascope/probes", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["digest"]


def test_a_plain_request_is_vllm_s_own(served, reference):
    reply = ask(served)
    want = wanted(reference)
    assert tuple(reply.choices[0].token_ids) == want.token_ids
    assert reply.choices[0].message.content == want.text
    assert "personascope" not in reply.model_dump()


@pytest.mark.parametrize("own", [False, True], ids=["vllm_xargs", "own field"])
def test_a_planned_request_equals_the_reference(served, reference, tmp_path, own):
    for number, plan in enumerate((plans(576, 30)[1], plans(576, 30)[2])):
        answer = served.upload(plan, tmp_path / f"{number}{own}")
        assert (answer.status_code, answer.json()) == (200, {"digest": plan.digest})
        reply = ask(served, {"plan": plan.digest}, own=own)
        want = wanted(reference, plan)
        assert tuple(reply.choices[0].token_ids) == want.token_ids
        assert reply.choices[0].message.content == want.text
        assert reply.personascope["plan"] == plan.digest
    assert ask(served).choices[0].message.content == wanted(reference).text


def test_a_plan_given_at_the_start_caps_and_is_counted(served, reference):
    plan = plans(576, 30)[0]
    question = "What becomes of rivers that nobody counts?"
    reply = ask(served, {"plan": plan.digest, "pool": True}, question=question)
    want = wanted(reference, plan, question=question)
    assert reply.choices[0].message.content == want.text
    firing = reply.personascope["firing"]
    # The reference feeds the last token once more, where the cap may fire too.
    assert firing["tokens"] == want.cap_stats.tokens - 1
    assert 0 <= want.cap_stats.capped_tokens - firing["capped_tokens"] <= 1
    assert firing["capped_tokens"] > 0
    assert firing["share"] == pytest.approx(firing["capped_tokens"] / firing["tokens"])
    for layer, count in want.cap_stats.fired.items():
        assert 0 <= count - firing["layers"][str(layer)]["fired"] <= 1
    pooled = reply.personascope["pooled"]
    assert (pooled["shape"], pooled["tokens"]) == ([30, 576], 23)
    mean = np.frombuffer(base64.b64decode(pooled["data"]), "<f4").reshape(30, 576)
    tokens = want.token_ids[:-1]
    short = Sampling(temperature=0, max_new_tokens=len(tokens))
    request = Request("y", (Message("user", question),), short, plan=plan, capture=Capture())
    (cut,) = reference.run([request])
    assert cut.token_ids == tokens
    assert np.allclose(mean, cut.pooled, atol=1e-4 * np.abs(cut.pooled).mean())


def test_streamed_projections_are_the_reference_s(served, reference, probes):
    plan = plans(576, 30)[0]
    for value, acts in (({"probes": probes}, None), ({"probes": probes, "plan": plan.digest}, plan)):
        tokens: list[int] = []
        found: dict[str, list[float]] = {probe.name: [] for probe in PROBES}
        behind: list[int] = []
        chunks = list(ask(served, value, stream=True))
        for chunk in chunks:
            for choice in chunk.choices:
                tokens += token_ids(choice)
            for name, values in chunk.personascope["projections"].items():
                assert chunk.personascope["first"] == len(found[name])
                found[name] += values
            if chunk.choices and token_ids(chunk.choices[0]):
                behind.append(len(tokens) - len(found["late"]))
        # A token's projection comes with the next token.
        assert behind == [1] * len(behind)
        assert len(behind) > 10
        last = chunks[-1]
        # One choice that adds nothing, for loops that read choices[0] of every chunk.
        (nothing,) = last.choices
        assert (nothing.delta.content, nothing.finish_reason) == ("", None)
        assert last.personascope["projected_tokens"] == len(tokens) - 1
        assert ("firing" in last.personascope) == (acts is not None)
        talk = (Message("user", QUESTION), Message("assistant", reference.decode(tuple(tokens))))
        turn = reference.observe(talk, probes=tuple(PROBES), plan=acts)[-1]
        for probe in PROBES:
            assert near(found[probe.name], turn.projections[probe.name][: len(tokens) - 1])


def test_a_whole_reply_has_the_projections_of_its_tokens(served, reference, probes):
    reply = ask(served, {"probes": probes})
    want = wanted(reference, probes=PROBES)
    for probe in PROBES:
        got = reply.personascope["projections"][probe.name]
        assert near(got, want.projections[probe.name][:-1])
    assert reply.personascope["projected_tokens"] == 23


def test_token_ids_are_shown_to_those_who_asked(served, probes):
    for stream in (False, True):
        raw = served.http(
            "POST",
            "/v1/chat/completions",
            json={
                "model": MODEL,
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 4,
                "stream": stream,
                "personascope": {"probes": probes},
            },
        )
        assert raw.status_code == 200
        assert '"projections"' in raw.text
        assert '"token_ids":[' not in raw.text.replace(" ", "")


def test_a_stop_text_ends_the_projections_with_the_response(served, probes):
    for stream in (False, True):
        reply = ask(served, {"probes": probes}, stop=["."], max_tokens=60, stream=stream)
        if stream:
            chunks = list(reply)
            tokens = [t for chunk in chunks for c in chunk.choices for t in token_ids(c)]
            late = [x for chunk in chunks for x in chunk.personascope["projections"]["late"]]
        else:
            assert reply.choices[0].finish_reason == "stop"
            tokens, late = reply.choices[0].token_ids, reply.personascope["projections"]["late"]
        assert len(late) == len(tokens) - 1
    assert quiet(served)["results"] == 0


def test_plain_completions_take_plans_too(served, reference):
    plan = plans(576, 30)[1]
    prompt = list(reference.encode("The sea is"))
    (want,) = reference.run(
        [Request("x", tuple(prompt), Sampling(temperature=0, max_new_tokens=16), plan=plan)]
    )
    options = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 16}
    value = {"personascope": {"plan": plan.digest}}
    reply = served.client().completions.create(**options, extra_body=value)
    assert reply.choices[0].text == want.text
    assert reply.personascope["plan"] == plan.digest
    chunks = list(served.client().completions.create(**options, extra_body=value, stream=True))
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == want.text
    with pytest.raises(openai.BadRequestError, match="several prompts"):
        served.client().completions.create(**options | {"prompt": ["a", "b"]}, extra_body=value)


def test_several_samples_are_told_apart(served, probes):
    plan = plans(576, 30)[0]
    value = {"plan": plan.digest, "probes": probes, "pool": True}
    reply = ask(served, value, n=2, temperature=1.0, seed=3)
    samples = reply.personascope["samples"]
    texts = [choice.message.content for choice in reply.choices]
    assert [sample["index"] for sample in samples] == [0, 1]
    assert texts[0] != texts[1]
    for choice, sample in zip(reply.choices, samples, strict=True):
        assert len(sample["projections"]["late"]) == len(choice.token_ids) - 1
        assert sample["firing"]["tokens"] > 0
        assert sample["pooled"]["tokens"] == len(choice.token_ids) - 1
    assert samples[0]["projections"] != samples[1]["projections"]
    found: list[list[float]] = [[], []]
    for chunk in ask(served, {"probes": probes}, n=2, temperature=1.0, seed=3, stream=True):
        for part in chunk.personascope.get("samples", [chunk.personascope]):
            found[part["index"]] += part["projections"]["late"]
    assert all(len(values) > 10 for values in found)
    assert quiet(served)["results"] == 0


def test_mixed_requests_at_once(served, reference, probes):
    kinds = [None, plans(576, 30)[0], plans(576, 30)[1], plans(576, 30)[2]]

    def one(plan: Plan | None) -> str:
        if plan is None:
            return ask(served, {"probes": probes}).choices[0].message.content
        chunks = list(ask(served, {"plan": plan.digest}, stream=True))
        assert chunks[-1].personascope["plan"] == plan.digest
        return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(one, kinds))
    assert texts == [wanted(reference, plan).text for plan in kinds]
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"plan": "0" * 64}, "there is no plan"),
        ({"plan": "../../etc"}, "there is no plan"),
        ({"probes": "f" * 64}, "there is no probe set"),
        ({"plan": 7}, "plan is 7"),
        ({"pool": 1}, "pool is 1"),
        ({"key": "mine"}, "unknown field 'key'"),
        ({}, "asks for nothing"),
        ([], "is a list"),
        ("text", "is a str"),
    ],
)
def test_what_cannot_be_honoured_is_refused(served, value, says):
    for own in (False, True):
        with pytest.raises(openai.BadRequestError, match=says):
            ask(served, value, own=own)
    with pytest.raises(openai.BadRequestError, match=says):
        ask(served, value, stream=True)


def test_a_field_that_would_go_unheard_is_refused(served, tmp_path):
    plan = plans(576, 30)[1]
    digest = served.upload(plan, tmp_path / "p").json()["digest"]
    client = served.client()
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with pytest.raises(openai.BadRequestError, match="is not JSON"):
        client.chat.completions.create(**chat, extra_body={"vllm_xargs": {"personascope": "{plan"}})
    with pytest.raises(openai.BadRequestError, match="twice"):
        both = {"personascope": {"plan": digest}, "vllm_xargs": {"personascope": "{}"}}
        client.chat.completions.create(**chat, extra_body=both)
    with pytest.raises(openai.BadRequestError, match="beam search"):
        beams = {"personascope": {"plan": digest}, "use_beam_search": True}
        client.chat.completions.create(**chat, n=2, extra_body=beams)
    for value in ({"personascope": {"plan": digest}}, {"vllm_xargs": {"personascope": "{}"}}):
        with pytest.raises(openai.BadRequestError, match=r"/v1/responses would leave .*personascope unheard"):
            client.responses.create(model=MODEL, input="Hi", extra_body=value)
    # Without the field that route is as it was.
    answer = served.http("POST", "/tokenize", json={"model": MODEL, "prompt": "Hi"})
    assert answer.json()["count"] >= 1


def test_a_plan_from_a_turn_on_is_refused(served, tmp_path):
    plan = plans(576, 30)[4]
    assert served.upload(plan, tmp_path / "turn").status_code == 200
    with pytest.raises(openai.BadRequestError, match="turn:1"):
        ask(served, {"plan": plan.digest})


def test_what_the_scheduler_refuses_is_an_error(served, tmp_path):
    for number, stream in enumerate((False, True)):
        plan = Plan((Steer(3, directions(576)[2], strength=1.5 + number),))
        served.upload(plan, tmp_path / f"gone{number}")
        told = served.http("GET", f"/v1/personascope/plans/{plan.digest}")
        assert "add +" in told.json()["explanation"]
        # Refused behind the plan's check: the front end has it in memory now, the scheduler not yet.
        beams = {"personascope": {"plan": plan.digest}, "use_beam_search": True}
        messages = [{"role": "user", "content": QUESTION}]
        with pytest.raises(openai.BadRequestError, match="beam search"):
            served.client().chat.completions.create(model=MODEL, messages=messages, n=2, extra_body=beams)
        (served.store / plan.digest / "plan.json").unlink()
        with pytest.raises(openai.APIError, match="is damaged") as caught:
            reply = ask(served, {"plan": plan.digest}, stream=stream)
            list(reply)
        assert isinstance(caught.value, openai.BadRequestError) is not stream
    stats = quiet(served)
    assert stats["under_way"] == stats["results"] == 0


def test_uploads_need_the_key(served):
    for path in ("plans", "probes"):
        for key in (None, "wrong"):
            assert served.http("POST", f"/v1/personascope/{path}", key, json={}).status_code == 401
    assert served.http("GET", "/v1/personascope/plans", None).status_code == 401
    assert served.http("GET", "/v1/personascope/stats", None).status_code == 401


def test_garbage_is_refused(served, tmp_path):
    plan = Plan((Cap(5, directions(576)[0], floor=0.5),))
    plan.save(tmp_path / "plan")
    record = json.loads((tmp_path / "plan" / "plan.json").read_text())
    tensors = base64.b64encode((tmp_path / "plan" / "plan.safetensors").read_bytes()).decode()
    ops = record["ops"]
    other = {**ops[0], "floor": 9.0}
    wide, deep = (
        Plan((Cap(5, np.ones(64, np.float32), floor=0.5),)),
        Plan((Cap(30, np.ones(576), floor=0.5),)),
    )
    bad: list[tuple[Any, str]] = [
        (b"\x80\x04garbage", "not JSON"),
        ([], "not an object"),
        ({"plan": record}, "not an object"),
        ({"plan": record, "tensors": "%%%"}, "not base64"),
        ({"plan": record, "tensors": base64.b64encode(b"\x80\x04.pickle").decode()}, "cannot be read"),
        ({"plan": [], "tensors": tensors}, "no plan"),
        ({"plan": {**record, "format": 9}, "tensors": tensors}, "format"),
        ({"plan": {**record, "ops": 3}, "tensors": tensors}, "no plan"),
        ({"plan": {**record, "ops": [3]}, "tensors": tensors}, "no plan"),
        ({"plan": {**record, "ops": [other]}, "tensors": tensors}, "digest"),
        ({"plan": {**record, "ops": [{**ops[0], "layer": "x"}]}, "tensors": tensors}, "layer"),
        ({"plan": {**record, "ops": [{**ops[0], "op": "delete"}]}, "tensors": tensors}, "no plan"),
    ]
    for body, says in bad:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = served.http("POST", "/v1/personascope/plans", content=content)
        assert answer.status_code == 400, (says, answer.text)
        assert says in answer.json()["error"]["message"], answer.text
    for number, (plan, says) in enumerate(((wide, "width 64"), (deep, "layer 30"))):
        answer = served.upload(plan, tmp_path / f"wrong{number}")
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]
    probe = {"name": "a", "layer": 2, "direction": [1.0] * 576}
    for body, says in (
        ([], "no list"),
        ([{**probe, "layer": 30}], "layer 30"),
        ([{**probe, "direction": [1.0] * 4}], "4 wide"),
        ([{**probe, "direction": [1e999] * 576}], "not finite"),
        ([{**probe, "direction": "abc"}], "no list of numbers"),
        ([probe, probe], "the name 'a'"),
        ([{**probe, "extra": 1}], "other fields"),
    ):
        answer = served.http("POST", "/v1/personascope/probes", content=json.dumps(body).encode())
        assert answer.status_code == 400, (says, answer.text)
        assert says in answer.json()["error"]["message"], answer.text
    big = b" " * (64 << 20) + b"12"
    assert served.http("POST", "/v1/personascope/plans", content=big).status_code == 413


def test_the_plans_are_listed_and_explained(served):
    found = served.http("GET", "/v1/personascope/plans").json()["plans"]
    digest = plans(576, 30)[0].digest
    told = {plan["digest"]: plan for plan in found}[digest]
    assert "hold the projection" in told["explanation"]
    assert served.http("GET", f"/v1/personascope/plans/{digest}").json() == told
    assert served.http("GET", f"/v1/personascope/plans/{'0' * 64}").status_code == 404


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_leaves_nothing(served, probes, stream):
    value = {"plan": plans(576, 30)[0].digest, "probes": probes, "pool": True}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 900,
        "ignore_eos": True,
        "temperature": 1.0,
        "n": 2,
        "stream": stream,
        "personascope": value,
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    for _ in range(3):
        with httpx.Client(base_url=served.url, headers=headers, timeout=120) as client:
            if stream:
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    lines = answer.iter_lines()
                    while "projections" not in next(lines):
                        pass
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post("/v1/chat/completions", json=body, timeout=1.5)
    stats = quiet(served)
    assert stats["under_way"] == stats["requests"] == stats["results"] == 0
    assert stats["slots"] == stats["free_slots"] > 0
    assert stats["cap_counts"] == stats["free_cap_counts"] > 0
    assert len(ask(served, {"probes": probes}).choices[0].token_ids) == 24
