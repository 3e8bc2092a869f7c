"""A gate in a request: its tokens are those of the engine with the monitor's watch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_case import CHAT, Served, body, serving, unit, upload_of

from chat.reply_templates import SHAPES
from eval_case import engine
from helpers.chains import save_chains
from personascope.chat import Message
from personascope.dynamics.monitor import Cusum, Monitor, MonitorBaseline, Threshold
from personascope.engines import Completion, GateWatch, Probe, Request, Sampling, load_engine
from personascope.interventions import Cap, Plan, Steer

LENGTH = 24


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("gate")) as found:
        yield found


@pytest.fixture(scope="module")
def probe(served: Served) -> Probe:
    return Probe("a", 1, unit(served.mapped.persona_map.d_model, 3))


@pytest.fixture(scope="module")
def probes(served: Served, probe: Probe) -> str:
    sent = [{"name": "a", "layer": 1, "direction": probe.direction.tolist()}]
    return served.http("POST", "/v1/personascope/probes", json=sent).json()["digest"]


@pytest.fixture(scope="module")
def gates(served: Served, tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    width = served.mapped.persona_map.d_model
    made = [
        Plan((Cap(1, unit(width, 3), floor=1.5), Cap(2, unit(width, 4), floor=2.0)), None, "gate caps"),
        Plan((Steer(0, unit(width, 5), 6.0, tokens="response"),), None, "gate steers"),
    ]
    for number, plan in enumerate(made):
        sent = upload_of(plan, tmp_path_factory.mktemp("plans") / f"{number}")
        assert served.http("POST", "/v1/personascope/plans", json=sent).status_code == 200
    return made


def monitor(number: int, gate: Plan) -> Monitor:
    """Return a monitor whose alarm comes at another token in every reply."""
    if number % 2:
        rule: Any = Threshold("token", 0.3 * (number % 3) - 0.4, window=1 + number % 5)
    else:
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
        rule = Cusum(base, threshold=0.5 + number % 3, allowance=0.1)
    return Monitor(rule, layer=1, probe="a", units=(-0.5, 0.7), on_alarm=gate)


def alarm_of(number: int, gate: Plan) -> dict[str, Any]:
    told = monitor(number, gate).watch().gate()  # pyright: ignore
    return json.loads(json.dumps(told.alarm.record()))


def question(number: int) -> str:
    return f"{number} times, what is rain?"


@pytest.mark.parametrize("stream", [False, True])
def test_a_gate_opens_where_the_engine_s_does(
    served: Served, probe: Probe, probes: str, gates: list[Plan], stream: bool
) -> None:
    jobs = [(n, gate, base) for n in range(6) for gate in gates for base in (None, served.plan)]

    def one(job: tuple[int, Plan, Plan | None]) -> tuple[str, dict[str, Any]]:
        number, gate, base = job
        gate_field = {"plan": gate.name, "probe": "a", "alarm": alarm_of(number, gate)}
        field = {"plan": None if base is None else base.digest, "probes": probes, "gate": gate_field}
        if stream:
            chunks = served.stream(question(number), field, max_tokens=LENGTH)
            texts = [one["delta"].get("content", "") for c in chunks[:-1] for one in c["choices"]]
            return "".join(texts), chunks[-2]["personascope"]
        found = served.chat(question(number), field, max_tokens=LENGTH)
        return found["choices"][0]["message"]["content"], found["personascope"]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(one, jobs))
    opened: set[int] = set()
    changed = 0
    for (number, gate, base), (text, told) in zip(jobs, replies, strict=True):
        done, plain = (
            run(question(number), probe, base, watch) for watch in (monitor(number, gate).watch(), None)
        )
        assert text == done.text
        want = None if done.gate is None else done.gate.token
        assert told["gate"]["plan"] == gate.digest and told["gate"]["token"] == want
        assert told["plan"] == (None if base is None else base.digest)
        if done.gate is None:
            assert told["gate"]["firing"] is None
            continue
        opened.add(done.gate.token)
        changed += done.token_ids != plain.token_ids
        assert told["gate"]["firing"]["tokens"] == done.gate.cap_stats.tokens > 0
        assert told["gate"]["firing"]["capped_tokens"] == done.gate.cap_stats.capped_tokens
    assert len(opened) >= 3 and changed >= 4
    lines = served.http("GET", "/metrics", key=None).text.splitlines()
    (alarms,) = (line.split()[1] for line in lines if line.startswith("personascope_alarms_total "))
    assert float(alarms) >= len(opened)


def run(text: str, probe: Probe, plan: Plan | None, watch: Any) -> Completion:
    asked = Request(
        "chat",
        (Message("user", text),),
        Sampling(0.0, 1.0, LENGTH),
        plan=plan,
        probes=(probe,),
        seed=0,
        watch=watch,
        tokens="response",
    )
    (done,) = engine().run([asked])
    return done


@pytest.mark.parametrize("tokens", ["thinking", "answer", "response"])
def test_a_gate_hears_the_part_that_it_names(tmp_path: Path, tokens: str) -> None:
    family = replace(SHAPES["qwq"].family, plain_added=("</thi", "nk>"))
    folder = save_chains(family, tmp_path / "model", ["</think>\n\n"], openings=160)
    thinks = load_engine(str(folder), dtype="float32", device="cpu", max_batch=8)
    probe = Probe("a", 1, unit(thinks.info.d_model, 3))
    gate = Plan((Steer(0, unit(thinks.info.d_model, 5), 6.0, tokens="response"),))
    sampling = Sampling(temperature=0, max_new_tokens=18, max_thinking_tokens=30)
    opened: list[int | None] = []
    for number in range(6):
        asked = Request("x", (Message("user", question(number)),), sampling, probes=(probe,), tokens=tokens)
        watched = replace(asked, watch=monitor(number, gate).watch())
        told = monitor(number, gate).watch().gate()  # pyright: ignore
        served = replace(asked, watch=GateWatch(told, tokens), tokens="response")
        (want,), (got,) = thinks.run([watched]), thinks.run([served])
        assert got.token_ids == want.token_ids
        assert (got.gate is None) == (want.gate is None)
        if got.gate is not None and want.gate is not None:
            assert got.gate.token == want.gate.token
        opened.append(None if want.gate is None else want.gate.token)
    assert len(set(opened) - {None}) >= 2


def test_what_cannot_be_honoured_is_refused(
    served: Served, probes: str, gates: list[Plan], tmp_path: Path
) -> None:
    width = served.mapped.persona_map.d_model
    bad = {
        "turn": Plan((Steer(1, unit(width, 1), 1.0, tokens="turn:7"),), None, "of a turn"),
        "prompt": Plan((Steer(1, unit(width, 1), 1.0, tokens="prompt"),), None, "of the prompt"),
        "thinking": Plan((Steer(1, unit(width, 1), 1.0, tokens="thinking"),), None, "of the thinking"),
    }
    for name, plan in bad.items():
        sent = upload_of(plan, tmp_path / name)
        assert served.http("POST", "/v1/personascope/plans", json=sent).status_code == 200
    alarm = {"zero": 0.0, "one": 1.0, "threshold": 0.5}
    whole = {"plan": gates[0].digest, "probe": "a", "alarm": alarm}
    told: list[tuple[dict[str, Any], str]] = [
        ({"gate": whole}, "probe 'a'"),
        ({"positions": False, "gate": whole}, "probe 'a'"),
        ({"probes": probes, "gate": whole | {"probe": "b"}}, "probe 'b'"),
        ({"probes": probes, "gate": whole | {"plan": "0" * 64}}, "no plan"),
        ({"probes": probes, "gate": whole | {"plan": "none"}}, "the gate has no plan"),
        ({"probes": probes, "gate": whole | {"alarm": alarm | {"one": 0}}}, "same projection"),
        ({"probes": probes, "gate": whole | {"alarm": {"zero": 0}}}, "no one"),
        ({"probes": probes, "gate": whole | {"tokens": "prompt"}}, "reads 'prompt'"),
        ({"probes": probes, "gate": whole | {"tokens": "thinking"}}, "reads the thinking"),
        ({"probes": probes, "gate": whole | {"at": 3}}, "no object with a plan"),
        ({"probes": probes, "gate": []}, "no object with a plan"),
        ({"probes": probes, "gate": whole | {"plan": bad["turn"].digest}}, "turn:7"),
        ({"probes": probes, "gate": whole | {"plan": bad["prompt"].digest}}, "prompt alone"),
        ({"probes": probes, "gate": whole | {"plan": bad["thinking"].digest}}, "thinking"),
    ]
    for field, says in told:
        message = served.refused(400, json=body("Hi", field))
        assert says in message, (field, message)
    text = {"prompt": "Hi", "max_tokens": 4, "personascope": {"probes": probes, "gate": whole}}
    answer = served.http("POST", "/v1/completions", json=text)
    assert answer.status_code == 200 and answer.json()["personascope"]["gate"]["plan"] == gates[0].digest
    served.idle()
    assert served.http("POST", CHAT, json=body("Hi")).status_code == 200
