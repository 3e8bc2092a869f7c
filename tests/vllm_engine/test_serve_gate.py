"""Plans on parts of a reply, and gates, through a real server: the tokens are the Transformers engine's."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from parts_case import plans, save_tags, vectors
from serve_case import KEY, Served, serve, start, stop
from test_engine_gate import GATES, rule

from personascope.chat import Message
from personascope.dynamics.monitor import Monitor
from personascope.engines import Completion, Probe, Request, Sampling, load_engine
from personascope.interventions import Plan, Steer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")
pytest.importorskip("openai", reason="openai comes with vLLM")

LENGTH = 28
PROBE = Probe("a", 1, vectors()[0])


@dataclass
class Case:
    """A server of a model that thinks, the same model in the Transformers engine, and uploaded probes."""

    served: Served
    model: str
    reference: Any
    probes: str

    def ask(self, text: str, field: dict[str, Any] | None, **options: Any) -> Any:
        body: dict[str, Any] = {"return_token_ids": True, **options.pop("body", {})}
        if field is not None:
            body["personascope"] = field
        options = {"temperature": 0, "max_tokens": LENGTH, **options}
        messages = [{"role": "user", "content": text}]
        chat = self.served.client().chat.completions
        return chat.create(model=self.model, messages=messages, extra_body=body, **options)  # pyright: ignore

    def want(self, text: str, plan: Plan | None = None, **more: Any) -> Completion:
        sampling = Sampling(temperature=0, max_new_tokens=LENGTH, max_thinking_tokens=LENGTH)
        request = Request(text, (Message("user", text),), sampling, plan=plan, **more)
        (done,) = self.reference.run([request])
        return done


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    model = save_tags(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = serve(
        *(model, "--port", port, "--api-key", KEY, "--dtype", "float32", "--plan-store", folder / "plans"),
        *("--", "--max-model-len", 512, "--max-num-seqs", 16),
    )
    assert ran.returncode == 0, ran.stderr
    url = f"http://127.0.0.1:{port}"
    process = start(ran.stdout.strip(), folder / "log", url)
    served = Served(url, folder / "log", folder / "plans")
    name = served.http("GET", "/v1/models").json()["data"][0]["id"]
    body = [{"name": "a", "layer": 1, "direction": PROBE.direction.tolist()}]
    probes = served.http("POST", "/v1/personascope/probes", json=body).json()["digest"]
    yield Case(served, name, load_engine(str(model), dtype="float32", device="cpu"), probes)
    stop(process)


def text(number: int) -> str:
    return f"{number} times, who are you and what is the sea?"


def tokens_of(reply: Any) -> tuple[int, ...]:
    return tuple(reply.choices[0].token_ids)


def agree(got: tuple[int, ...], want: Completion) -> None:
    """Hold tokens to the reference's, which ends where its thinking or its answer is too long."""
    length = min(len(got), len(want.token_ids))
    assert length >= 4
    assert got[:length] == want.token_ids[:length]


def test_plans_act_on_parts_of_chats(case, tmp_path):
    chosen = plans()
    for number, plan in enumerate(chosen):
        assert case.served.upload(plan, tmp_path / f"{number}").status_code == 200
    jobs = [(n, plan) for n in range(4) for plan in (None, *chosen)]

    def one(job: tuple[int, Plan | None]) -> Any:
        number, plan = job
        return case.ask(text(number), None if plan is None else {"plan": plan.digest})

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(one, jobs))
    for (number, plan), reply in zip(jobs, replies, strict=True):
        agree(tokens_of(reply), case.want(text(number), plan))
        assert plan is None or reply.personascope["plan"] == plan.digest
    by_plan = {plan and plan.digest: tokens_of(r) for (_, plan), r in zip(jobs[:6], replies[:6], strict=True)}
    assert len(set(by_plan.values())) >= 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_gate_opens_at_the_token_of_the_transformers_engine(case, tmp_path, stream):
    gate, own = GATES[0], plans()[4]
    for number, plan in enumerate((gate, own)):
        assert case.served.upload(plan, tmp_path / f"{number}").status_code == 200
    jobs = [
        (n, base, tokens) for n in range(4) for base in (None, own) for tokens in ("response", "thinking")
    ]

    def monitor(number: int) -> Monitor:
        return Monitor(rule(number), layer=1, probe="a", units=(-0.5, 2.5), on_alarm=gate)

    def one(job: tuple[int, Plan | None, str]) -> tuple[tuple[int, ...], dict[str, Any]]:
        number, base, tokens = job
        told = monitor(number).watch().gate()  # pyright: ignore
        value: dict[str, Any] = {
            "probes": case.probes,
            "gate": {"plan": gate.digest, "probe": "a", "tokens": tokens, "alarm": told.alarm.record()},
        }
        if base is not None:
            value["plan"] = base.digest
        reply = case.ask(text(number), json.loads(json.dumps(value)), stream=stream)
        if not stream:
            return tokens_of(reply), reply.personascope
        got: list[int] = []
        last: dict[str, Any] = {}
        for chunk in reply:
            got += [token for choice in chunk.choices for token in getattr(choice, "token_ids", None) or []]
            last = getattr(chunk, "personascope", None) or last
        return tuple(got), last

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(one, jobs))
    opened = 0
    for (number, base, tokens), (got, told) in zip(jobs, replies, strict=True):
        want = case.want(text(number), base, probes=(PROBE,), tokens=tokens, watch=monitor(number).watch())
        agree(got, want)
        assert told["gate"]["plan"] == gate.digest
        token = None if want.gate is None else want.gate.token
        if told["gate"]["token"] is not None and token is None:
            # The reference's reply was over before.
            assert told["gate"]["token"] > len(want.token_ids)
        else:
            assert told["gate"]["token"] == token
        if token is not None:
            opened += 1
            # The last token of a served reply does not pass through the model.
            assert told["gate"]["firing"]["tokens"] == len(got) - 1 - token
            assert told["gate"]["firing"]["capped_tokens"] >= 1
    assert opened >= 6


def test_what_cannot_be_honoured_is_refused(case, tmp_path):
    part, gate = plans()[0], GATES[0]
    for number, plan in enumerate((part, gate)):
        case.served.upload(plan, tmp_path / f"{number}")
    turn = Plan((Steer(1, vectors()[0], 1.0, tokens="turn:0"),))
    case.served.upload(turn, tmp_path / "turn")
    alarm = {"zero": 0.0, "one": 1.0, "threshold": 0.5}
    whole = {"plan": gate.digest, "probe": "a", "alarm": alarm}
    chat = {"model": case.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    told: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (
            {"plan": part.digest},
            {"continue_final_message": True, "add_generation_prompt": False},
            "continue_final",
        ),
        ({"plan": part.digest}, {"add_generation_prompt": False}, "add_generation_prompt"),
        ({"plan": turn.digest}, {}, "turn:0"),
        ({"probes": case.probes, "gate": {**whole, "plan": turn.digest}}, {}, "turn:0"),
        ({"pool": True, "gate": whole}, {}, "probe 'a'"),
        ({"probes": case.probes, "gate": {**whole, "probe": "b"}}, {}, "probe 'b'"),
        ({"probes": case.probes, "gate": {**whole, "plan": "0" * 64}}, {}, "no plan"),
        ({"probes": case.probes, "gate": {**whole, "alarm": {**alarm, "one": 0}}}, {}, "same projection"),
        ({"probes": case.probes, "gate": {**whole, "alarm": {"zero": 0}}}, {}, "no one"),
        ({"probes": case.probes, "gate": {**whole, "tokens": "prompt"}}, {}, "reads 'prompt'"),
        ({"probes": case.probes, "gate": {**whole, "at": 3}}, {}, "no object with a plan"),
        ({"probes": case.probes, "gate": []}, {}, "no object with a plan"),
        ({"gate": whole}, {}, "asks for nothing"),
    ]
    for value, more, says in told:
        answer = case.served.http("POST", "/v1/chat/completions", json=chat | more | {"personascope": value})
        assert answer.status_code == 400, (value, answer.text)
        assert says in answer.json()["error"]["message"], (value, answer.text)
    body = {"model": case.model, "prompt": "Hi", "max_tokens": 4, "personascope": {"plan": part.digest}}
    answer = case.served.http("POST", "/v1/completions", json=body)
    assert answer.status_code == 400 and "acts on the thinking" in answer.json()["error"]["message"]
    # A gate on a bare text reads all of the response.
    body |= {"personascope": {"probes": case.probes, "gate": whole}}
    answer = case.served.http("POST", "/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["personascope"]["gate"]["plan"] == gate.digest
