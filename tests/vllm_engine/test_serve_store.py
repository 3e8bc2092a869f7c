"""Plans and probes over HTTP: uploads with hostile numbers, pages, deletion, and other methods."""

from __future__ import annotations

import base64
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fake_engine import Engine, client
from fastapi.testclient import TestClient

from personascope.engines import PlanStore
from personascope.interventions import Cap, Plan, PlanModel, Steer

ROOT = "/v1/personascope"
V = np.ones(24, np.float32)


def body_of(plan: Plan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        plan.save(Path(folder) / "plan")
        tensors = (Path(folder) / "plan" / "plan.safetensors").read_bytes()
        record = json.loads((Path(folder) / "plan" / "plan.json").read_text())
    return {"plan": record, "tensors": base64.b64encode(tensors).decode()}


def steer(number: int) -> Plan:
    return Plan((Steer(2, V, strength=1.0 + number),), name=f"plan {number}")


@pytest.fixture
def web(tmp_path: Path) -> TestClient:
    return client(Engine(tmp_path / "store", allow_upload=True))


HOSTILE: list[tuple[str, str, str]] = [
    ('"strength": 1.0', '"strength": 1' + "0" * 400, "strength 1000"),
    ('"strength": 1.0', '"strength": 1e999', "strength inf"),
    ('"strength": 1.0', '"strength": NaN', "strength nan"),
    ('"strength": 1.0', '"strength": 1e300', "float32 ends at 3.40282e+38"),
    ('"strength": 1.0', '"strength": ' + "[" * 90 + "]" * 90, "finite number"),
    ('"norm": null', '"norm": 1' + "0" * 5000, "not JSON"),
    ('"norm": 8.0', '"norm": 1e200', "float32 ends at"),
    ('"layer": 2', '"layer": 1' + "0" * 400, "the layer 1000"),
    ('"where": "all"', '"where": "turn:' + "1" * 5000 + '"', "acts on"),
    ('"where": "all"', '"where": "turn:\\u0661"', "acts on"),
    ('"name": "a plan"', '"name": "\\ud800"', "the plan has the name"),
    ('"name": "a plan"', '"name": 3', "the plan has the name 3"),
    ('"revision": "r"', '"revision": 3', "the revision 3"),
    ('"revision": "r"', '"revision": "\\udfff"', "the revision"),
    ('"n_layers": 4', '"n_layers": "4"', "n_layers '4'"),
    ('"d_model": 24', '"d_model": true', "d_model True"),
    ('"digest": "', '"digest": 7, "other": "', "digest"),
]


@pytest.mark.parametrize(("old", "new", "says"), HOSTILE)
def test_a_hostile_plan_is_a_clear_error(tmp_path, old, new, says):
    web = client(Engine(tmp_path / "store", allow_upload=True, model_id="m", revision="r"))
    norm = 8.0 if "8.0" in old else None
    plan = Plan((Steer(2, V, strength=1.0, norm=norm),), PlanModel("m", "r", 4, 24), "a plan")
    text = json.dumps(body_of(plan))
    assert web.post(f"{ROOT}/plans", content=text).status_code == 200
    assert old in text
    answer = web.post(f"{ROOT}/plans", content=text.replace(old, new, 1))
    assert answer.status_code == 400, answer.text[:300]
    assert says in answer.json()["error"]["message"], answer.text[:300]
    assert len(answer.text) < 700


def test_numbers_that_the_model_s_dtype_does_not_hold_are_refused(tmp_path):
    engine = Engine(tmp_path / "store", allow_upload=True)
    engine.vllm_config.model_config.dtype = "torch.float16"
    web = client(engine)
    for plan in (Plan((Cap(2, V, floor=7e4),)), Plan((Steer(2, V, strength=100.0, norm=700.0),))):
        answer = web.post(f"{ROOT}/plans", json=body_of(plan))
        assert answer.status_code == 400
        assert "float16 ends at 65504" in answer.json()["error"]["message"]
    assert web.post(f"{ROOT}/plans", json=body_of(Plan((Cap(2, V, floor=6e4),)))).status_code == 200


def test_hostile_probes_are_a_clear_error(web):
    probe = {"name": "a", "layer": 2, "direction": [1.0] * 24}
    for field, value in (
        ("direction", [10**400] * 24),
        ("layer", 10**400),
        ("name", "\ud800"),
        ("name", ["a"]),
    ):
        answer = web.post(f"{ROOT}/probes", content=json.dumps([probe | {field: value}]))
        assert answer.status_code == 400, answer.text[:300]
        assert len(answer.text) < 700


def test_many_clients_upload_one_plan_at_once(web, tmp_path):
    with ThreadPoolExecutor(16) as pool:
        for number in range(8):
            body = body_of(steer(number))
            answers = list(pool.map(lambda _, body=body: web.post(f"{ROOT}/plans", json=body), range(16)))
            assert {answer.status_code for answer in answers} == {200}
    store = PlanStore(tmp_path / "store")
    assert [store.plan(digest).digest for digest in store.digests(Plan)] == store.digests(Plan)
    assert len(store.digests(Plan)) == 8


def test_lists_come_in_pages(web, tmp_path):
    store = PlanStore(tmp_path / "store")
    assert web.get(f"{ROOT}/plans").json() == {"plans": [], "next": None}
    digests = sorted(store.put(steer(number)) for number in range(105))
    first = web.get(f"{ROOT}/plans").json()
    assert [entry["digest"] for entry in first["plans"]] == digests[:100]
    assert first["next"] == digests[99]
    rest = web.get(f"{ROOT}/plans", params={"after": first["next"]}).json()
    assert ([entry["digest"] for entry in rest["plans"]], rest["next"]) == (digests[100:], None)
    exact = web.get(f"{ROOT}/plans", params={"after": digests[94], "limit": 10}).json()
    assert (len(exact["plans"]), exact["next"]) == (10, None)
    for limit in ("0", "-1", "1001", "x", "", "1e2", "\u0661"):
        answer = web.get(f"{ROOT}/plans", params={"limit": limit})
        assert answer.status_code == 400 and "from 1 to 1000" in answer.json()["error"]["message"]


def test_a_damaged_plan_says_so_until_it_is_sent_again(web, tmp_path):
    digest = web.post(f"{ROOT}/plans", json=body_of(steer(0))).json()["digest"]
    (tmp_path / "store" / digest / "plan.safetensors").unlink()
    (entry,) = web.get(f"{ROOT}/plans").json()["plans"]
    assert "is damaged" in entry["problem"]
    assert web.post(f"{ROOT}/plans", json=body_of(steer(0))).json() == {"digest": digest}
    assert web.get(f"{ROOT}/plans/{digest}").json()["name"] == "plan 0"


def test_plans_and_probes_are_told_and_taken_out(web):
    plan = web.post(f"{ROOT}/plans", json=body_of(steer(0))).json()["digest"]
    probe = [{"name": "a", "layer": 2, "direction": [1.0] * 24}]
    probes = web.post(f"{ROOT}/probes", json=probe).json()["digest"]
    told = {"digest": probes, "names": ["a"], "layers": [2]}
    assert web.get(f"{ROOT}/probes").json() == {"probes": [told], "next": None}
    assert web.get(f"{ROOT}/probes/{probes}").json() == told
    for kind, digest in (("plans", plan), ("probes", probes)):
        assert web.delete(f"{ROOT}/{kind}/{digest}").json() == {"digest": digest, "deleted": True}
        assert web.get(f"{ROOT}/{kind}/{digest}").status_code == 404
        assert web.delete(f"{ROOT}/{kind}/{digest}").status_code == 404
        value = {kind.rstrip("s") if kind == "plans" else kind: digest}
        chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "personascope": value}
        answer = web.post("/v1/chat/completions", json=chat)
        assert answer.status_code == 400 and "there is no" in answer.json()["error"]["message"]


def test_deletion_needs_leave(tmp_path):
    web = client(Engine(tmp_path / "store"))
    digest = PlanStore(tmp_path / "store").put(steer(0))
    assert web.delete(f"{ROOT}/plans/{digest}").status_code == 403
    assert web.get(f"{ROOT}/plans/{digest}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/plans", "GET, POST"),
        ("PUT", "/plans/x", "GET, DELETE"),
        ("DELETE", "/probes", "GET, POST"),
        ("POST", "/stats", "GET"),
    ],
)
def test_another_method_is_told_what_there_is(web, method, path, allowed):
    answer = web.request(method, ROOT + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"it takes {allowed}" in answer.json()["error"]["message"]
