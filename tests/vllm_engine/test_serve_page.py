"""Positions and the page on vLLM's server: the fields are those of the server on the Transformers engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from folder_case import saved
from serve_case import KEY, Served, free_port, quiet, serve, start, stop

from eval_case import corpus
from helpers.chromium import Page, chromium, needs_chromium
from personascope.api import MappedModel
from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import load_engine
from personascope.interventions import Cap, Plan
from personascope.mapping import Profile, run_map
from personascope.space import PersonaMap

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

CHAT = "/v1/chat/completions"
QUESTIONS = ("What is rain?", "Who are you?", "And the sea?", "Tell me of snow.", "Why?", "Hello there")
CUT = "\ufffd"
"""End of a reply that is cut inside a character, which vLLM leaves out."""
DONE = "!document.querySelector('#send').hidden"


@dataclass
class Both:
    """The same model, map, plan and monitor behind both servers, and the map."""

    vllm: Served
    live: Served
    plan: Plan
    persona_map: PersonaMap
    model: str

    def ask(self, served: Served, field: Any, **options: Any) -> dict[str, Any]:
        answer = served.http("POST", CHAT, json=self.body(field, **options))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def body(self, field: Any, **options: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": options.pop("question", "What is rain?")}]
        more = {} if field is None else {"personascope": field}
        return (
            {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 14} | options | more
        )

    def stream(self, served: Served, field: Any, **options: Any) -> list[Any]:
        body = self.body(field, **options) | {"stream": True}
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{served.url}{CHAT}"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=120) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("page")
    model = saved("llama", folder / "model")
    profile = Profile("tiny", None, None, None, 6, 6, 1, 1, crossed=True, role_information=False, keep="all")
    made = load_engine(str(model), dtype="float32", device="cpu", max_batch=16)
    # vLLM ends replies at the tokens that the model's files name.
    ends = {"eos_token_id": sorted(made.loaded.eos_token_ids)}  # pyright: ignore
    (model / "generation_config.json").write_text(json.dumps(ends))
    run_map(made, corpus(), profile, out=folder / "run", judge=None, n_boot=10)
    # Without norms in the run vLLM's server would make no steering plans.
    MappedModel.open(folder / "run", engine=made, progress=False).norms()
    persona_map = PersonaMap.open(folder / "run" / "map")
    at = persona_map.middle_layer
    mean_role, default = persona_map.units(at)
    # About half of the tokens are below it.
    floor = float(mean_role + 1.2 * (default - mean_role))
    plan = Plan((Cap(at, persona_map.unit_axis(at), floor=floor),), None, "half")
    plan.save(folder / "plan")
    Monitor(Threshold("token", 0.5, 4), layer=at).save(folder / "monitor.json")
    port = free_port()
    shared = ("--map", folder / "run", "--anyway", "--plan", folder / "plan", "--default-plan", "none")
    shared += ("--monitor", folder / "monitor.json", "--dtype", "float32")
    ran = serve(
        *(model, *shared, "--port", port, "--api-key", KEY, "--plan-store", folder / "store"),
        *("--", "--max-model-len", 512, "--max-num-seqs", 16),
    )
    assert ran.returncode == 0, ran.stderr
    process = start(ran.stdout.strip(), folder / "log", f"http://127.0.0.1:{port}")
    live = subprocess.Popen(
        [
            *(sys.executable, "-m", "personascope", "serve", str(model), *map(str, shared)),
            *("--engine", "transformers", "--port", "0", "--api-key", KEY),
            *("--plan-store", str(folder / "live")),
        ],
        stdout=subprocess.PIPE,
        stderr=(folder / "live.log").open("wb"),
        text=True,
    )
    assert live.stdout is not None
    found = re.match(r"(http://127\.0\.0\.1:\d+) ", live.stdout.readline())
    assert found, (folder / "live.log").read_text()
    by_vllm = Served(f"http://127.0.0.1:{port}", folder / "log", folder / "store")
    name = by_vllm.http("GET", "/v1/models").json()["data"][0]["id"]
    yield Both(by_vllm, Served(found[1], folder / "live.log", folder / "live"), plan, persona_map, name)
    live.terminate()
    live.wait(30)
    stop(process)


def test_what_is_served_is_described_alike(both: Both) -> None:
    told = [one.http("GET", "/v1/personascope/about").json() for one in (both.vllm, both.live)]
    for name in ("model", "dtype", "n_layers", "plans", "default_plan", "map", "inline", "monitor"):
        assert told[0][name] == told[1][name], name
    assert [one["engine"] for one in told] == ["vllm", "transformers"]
    assert told[0]["reads"] == {"before": True, "layers": True, "last_token": False}
    assert told[1]["reads"] == {"before": True, "layers": True, "last_token": True}
    spaces = [one.http("GET", "/v1/personascope/space").json() for one in (both.vllm, both.live)]
    assert spaces[0] == spaces[1] and len(spaces[0]["roles"]) == len(both.persona_map.roles)
    said = {"replies": [[0.9, 0.8, 0.2, -0.4, -0.9, -0.9], [0.1]]}
    alarms = [one.http("POST", "/v1/personascope/monitor", json=said) for one in (both.vllm, both.live)]
    assert alarms[0].json() == alarms[1].json() and alarms[0].json()["alarmed"]
    assert both.vllm.http("GET", "/v1/personascope/about", key=None).status_code == 401
    schemas = [
        one.http("GET", "/openapi.json").json()["components"]["schemas"] for one in (both.vllm, both.live)
    ]
    assert schemas[0]["PersonascopeRequest"] == schemas[1]["PersonascopeRequest"]


@pytest.mark.parametrize("planned", [False, True], ids=["plain", "capped"])
@pytest.mark.parametrize("more", [{}, {"space": True, "layers": True}], ids=["positions", "everything"])
def test_replies_tell_the_same(both: Both, planned: bool, more: dict[str, Any]) -> None:
    field = {"plan": "half" if planned else None, **more}
    long = moved = 0
    for question in QUESTIONS:
        mine, theirs = (both.ask(one, field, question=question) for one in (both.vllm, both.live))
        assert text_of(mine) == text_of(theirs)
        told, want = mine["personascope"], theirs["personascope"]
        assert (told["plan"], told["plan_name"], told["layer"]) == (
            want["plan"],
            want["plan_name"],
            want["layer"],
        )
        hold_tokens(told["tokens"], want["tokens"], mine["choices"][0]["finish_reason"])
        chunks = both.stream(both.vllm, field, question=question)
        streamed = [token for chunk in chunks for token in chunk.get("personascope", {}).get("tokens", ())]
        assert streamed == told["tokens"]
        if len(told["tokens"]) < 8:
            continue
        long += 1
        assert sum(bool(chunk.get("personascope", {}).get("tokens")) for chunk in chunks) > 1
        totals = chunks[-1]["personascope"]
        assert totals["answer"] == told["answer"] and totals.get("nearest") == told.get("nearest")
        # The mean of the tokens that have a position; the other server's last one counts too.
        for name in ("position", "before"):
            known = [token[name] for token in told["tokens"] if token["position"] is not None]
            assert told["answer"][name] == pytest.approx(sum(known) / len(known), abs=2e-3)
        if planned:
            moved += any(token["before"] != token["position"] for token in told["tokens"])
        else:
            assert all(token["before"] == token["position"] for token in told["tokens"])
        assert ("nearest" in told) == ("nearest" in want) == ("space" in told["answer"]) == bool(more)
    assert long >= 2 and moved >= 2 * planned


def text_of(reply: dict[str, Any]) -> str:
    return reply["choices"][0]["message"]["content"].rstrip(CUT)


def hold_tokens(got: list[dict[str, Any]], want: list[dict[str, Any]], finish: str) -> None:
    """Hold tokens to those of the other server, but for the last of a reply that was cut at the limit."""
    texts = [[(one["text"].rstrip(CUT), one["part"]) for one in tokens] for tokens in (got, want)]
    assert texts[0] == texts[1]
    if finish == "length":
        assert (got[-1]["position"], got[-1]["before"], got[-1]["percentile"]) == (None, None, None)
        got, want = got[:-1], want[:-1]
    for mine, theirs in zip(got, want, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("position", "before", "percentile", "layers", "layers_before"):
            if name in theirs:
                assert mine[name] == pytest.approx(theirs[name], abs=0.3 if name == "percentile" else 5e-3)


def test_probes_of_the_request_stand_beside_positions(both: Both) -> None:
    direction = both.persona_map.unit_axis(1)
    sent = [{"name": "own", "layer": 1, "direction": direction.tolist()}]
    found: list[dict[str, Any]] = []
    for served in (both.vllm, both.live):
        digest = served.http("POST", "/v1/personascope/probes", json=sent).json()["digest"]
        found.append(both.ask(served, {"plan": "half", "probes": digest, "space": True})["personascope"])
        assert found[-1]["probes"] == digest
    mine, theirs = (one["projections"]["own"] for one in found)
    assert mine == pytest.approx(theirs[: len(mine)], abs=1e-3) and len(theirs) - len(mine) <= 1
    assert list(found[0]["projections"]) == ["own"] and found[0]["tokens"][0]["position"] is not None
    taken = [{"name": "personascope position", "layer": 1, "direction": direction.tolist()}]
    digest = both.vllm.http("POST", "/v1/personascope/probes", json=taken).json()["digest"]
    for served in (both.vllm, both.live):
        served.http("POST", "/v1/personascope/probes", json=taken)
        answer = served.http("POST", CHAT, json=both.body({"probes": digest}))
        assert answer.status_code == 400 and "rename it" in answer.json()["error"]["message"]


def test_a_stop_text_is_cut_and_a_stock_request_stays_vllm_s_own(both: Both) -> None:
    whole = both.ask(both.vllm, {"plan": None})["choices"][0]["message"]["content"]
    end = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = whole[: whole.index(end)]
    for field in ({"plan": None}, {"plan": "half"}):
        text = both.ask(both.vllm, field)["choices"][0]["message"]["content"]
        if end not in text:
            continue
        mine, theirs = (both.ask(one, field, stop=end) for one in (both.vllm, both.live))
        assert mine["choices"][0]["message"]["content"] == text[: text.index(end)]
        tokens = mine["personascope"]["tokens"]
        assert "".join(token["text"] for token in tokens) == text[: text.index(end)]
        assert [one["text"] for one in tokens] == [one["text"] for one in theirs["personascope"]["tokens"]]
    assert cut
    assert "personascope" not in both.ask(both.vllm, None)
    plain = both.ask(both.vllm, {"plan": None, "positions": False})["personascope"]
    assert plain == {"plan": None, "plan_name": None, "probes": None}
    many = both.ask(both.vllm, {"plan": "half"}, n=2, temperature=1.0)
    for choice, sample in zip(many["choices"], many["personascope"]["samples"], strict=True):
        assert "".join(one["text"] for one in sample["tokens"]) == choice["message"]["content"]
        assert sample["answer"]["tokens"] >= len(sample["tokens"]) - 1
    assert both.ask(both.vllm, {"positions": True}, seed=7)["personascope"]["seed"] == 7


def test_both_servers_refuse_alike(both: Both) -> None:
    for field in (
        {"positions": "yes"},
        {"space": 1},
        {"positions": False, "space": True},
        {"positions": False, "layers": True},
        {"plan": "nowhere"},
        {"probes": 3},
        {"unknown": True},
        {},
    ):
        mine, theirs = (one.http("POST", CHAT, json=both.body(field)) for one in (both.vllm, both.live))
        assert mine.status_code == theirs.status_code == 400, field
        assert mine.json()["error"] == theirs.json()["error"], field


def test_clients_that_go_away_leave_nothing(both: Both) -> None:
    def one(number: int) -> None:
        body = both.body({"plan": "half", "space": True}, question=f"{number}?", max_tokens=300)
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.stream(
            "POST", f"{both.vllm.url}{CHAT}", json=body | {"stream": True}, headers=headers, timeout=60
        ) as answer:
            for count, _ in enumerate(answer.iter_lines()):
                if count > number % 7:
                    return

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(24)))
    stats = quiet(both.vllm)
    assert stats["under_way"] == stats["requests"] == stats["results"] == 0, stats
    assert stats["slots"] == stats["free_slots"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@needs_chromium
def test_the_page_shows_a_conversation_of_vllm(both: Both, browser: Page) -> None:
    page = browser
    page.open(f"{both.vllm.url}/")
    page.wait("!document.querySelector('#keyform').hidden")
    page.type("#key", KEY)
    page.key("Enter", 13, "\r")
    page.wait("document.querySelectorAll('.picker').length === 2")
    # The key is missing at first, which the browser logs.
    page.problems.clear()
    assert "vllm" in page.run("document.querySelector('#model').textContent")
    for text in ("What is rain?", "And snow?"):
        page.run(
            "(() => { const f = document.querySelector('#tokens'); f.value = 14; "
            "f.dispatchEvent(new Event('change')); })()"
        )
        page.type("#message", text)
        page.key("Enter", 13, "\r")
        page.wait("document.querySelector('#message').value === ''")
        page.wait(DONE)
        page.click("#tab-layers")
        page.run(
            "document.querySelector('#read-layers').checked || document.querySelector('#read-layers').click()"
        )
    texts = page.run("[...document.querySelectorAll('.reply > .said')].map((node) => node.textContent)")
    assert len(texts) == 4 and all(texts)
    assert page.run("document.querySelectorAll('.reply > .said span').length") > 20
    assert page.run("document.querySelectorAll('#layers .line').length") == 2
    page.click("#tab-space")
    assert page.run("document.querySelectorAll('#space .p0, #space .p1').length") >= 2
    assert "nearest roles" in page.run("document.querySelector('#space .near').textContent")
    page.click("#tab-path")
    assert page.run("document.querySelectorAll('#chart .p0, #chart .p1').length") == 4
    shown = page.run("document.querySelector('.reply.col1 .meta b').textContent")
    page.click("#before")
    assert page.run("document.querySelector('.reply.col1 .meta b').textContent") != shown
    assert page.run("document.querySelector('#after-alone').hidden")
    assert page.problems == []
