"""Default and required plans, keys, inline plans and schema on vLLM's server, before its engine runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fake_engine import CHAT, Engine
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient

from interop.map_case import save_map
from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import PlanStore, ServerOptions
from personascope.engines._vllm.server import _routes
from personascope.engines._vllm.server._front import ServerGuard, process_front
from personascope.engines._vllm.server._routes import PersonascopeEndpoint
from personascope.engines._vllm.server._server_options import VARIABLE
from personascope.errors import UsageError
from personascope.interventions import Plan, Steer

PATH = "/v1/chat/completions"
PLAN = Plan((Steer(2, np.ones(24, np.float32), strength=1.0),), name="push")
OTHER = Plan((Steer(1, np.ones(24, np.float32), strength=1.0),), name="other")
POLICY = f"""
format = 1
[aliases]
calm = "push"
[[keys]]
name = "held"
sha256 = "{hashlib.sha256(b"held").hexdigest()}"
require_plan = "calm"
read_only = true
[[keys]]
name = "free"
sha256 = "{hashlib.sha256(b"free").hexdigest()}"
requests_per_minute = 3
"""


class Seen:
    """vLLM's own route, made up: it answers what the engine would get, and plain requests."""

    def __init__(self) -> None:
        self.specs: list[Any] = []

    async def __call__(self, request: Any, raw: Any) -> Any:
        del raw
        spec = (request.vllm_xargs or {}).get("personascope")
        self.specs.append(None if spec is None else json.loads(spec))
        if spec is not None:
            return JSONResponse({"spec": json.loads(spec)}, 418)  # No reply follows, so none is completed.
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        if not request.stream:
            return JSONResponse({"choices": [{"message": {"content": "Hi."}}], "usage": usage})

        async def chunks() -> Any:
            value = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            ids = [1, 2] if request.return_token_ids else None
            choice = {"index": 0, "delta": {"content": "Hi."}, "token_ids": ids}
            yield f"data: {json.dumps(value | {'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")


@pytest.fixture
def open_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    seen = Seen()
    monkeypatch.setattr(_routes, "create_chat_completion", seen)

    def opened(engine: Any = None, *, guard: bool = True, **options: Any) -> TestClient:
        store = PlanStore(tmp_path / "store")
        names = {plan.name: store.put(plan) for plan in (PLAN, OTHER)}
        monkeypatch.setenv(VARIABLE, ServerOptions(names=names, **options).variable())
        process_front.cache_clear()

        async def made() -> TestClient:
            endpoint, app = PersonascopeEndpoint(), FastAPI()
            endpoint.attach_router(app)

            @app.post("/v1/responses")
            async def responses(body: dict[str, Any]) -> dict[str, Any]:
                return body

            if guard:
                app.add_middleware(ServerGuard)
            await endpoint.init_state(
                engine or Engine(tmp_path / "store"), app.state, SimpleNamespace(api_key=None)
            )
            return TestClient(app)

        web = asyncio.run(made())
        web.seen = seen  # type: ignore[attr-defined]
        return web

    yield opened
    process_front.cache_clear()


def ask(web: Any, field: Any = None, key: str | None = None, **more: Any) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    value = CHAT | more | ({} if field is None else {"personascope": field})
    return web.post(PATH, json=value, headers=headers)


def plan_of(answer: Any) -> str | None:
    assert answer.status_code == 418, answer.text
    return answer.json()["spec"].get("plan")


def test_requests_that_name_no_plan_run_under_the_default(open_web: Any) -> None:
    web = open_web(default_plan=PLAN.digest)
    for field in (None, {"pool": True}, {"plan": "push"}, {"plan": PLAN.digest[:10]}):
        assert plan_of(ask(web, field)) == PLAN.digest
    assert plan_of(ask(web, {"plan": "other"})) == OTHER.digest
    for field in ({"plan": None}, {"plan": "none"}):
        answer = ask(web, field)
        assert answer.json()["personascope"] == {"plan": None, "plan_name": None, "probes": None}
    answer = ask(web, {"plan": None}, stream=True)
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-2])["personascope"]["plan"] is None and events[-1] == "[DONE]"
    assert json.loads(events[0])["choices"][0]["token_ids"] is None


def test_a_field_that_asks_for_nothing_is_refused(open_web: Any) -> None:
    for options, fields in (
        ({}, [{}, {"probes": None}, {"pool": False}]),
        ({"default_plan": PLAN.digest}, [{}]),
    ):
        web = open_web(**options)
        for field in fields:
            answer = ask(web, field)
            assert answer.status_code == 400 and "asks for nothing" in answer.json()["error"]["message"]
    assert not web.seen.specs


def test_without_a_default_a_stock_request_is_vllm_s_own(open_web: Any) -> None:
    web = open_web()
    assert "personascope" not in ask(web).json()
    assert ask(web, stream=True).text.count("data: ") == 2
    assert web.seen.specs == [None, None]
    assert web.post("/v1/responses", json={"input": "Hi"}).status_code == 200


def test_a_required_plan_holds_on_every_route(open_web: Any) -> None:
    web = open_web(default_plan=PLAN.digest, require_plan=True)
    assert plan_of(ask(web)) == PLAN.digest
    for field in ({"plan": None}, {"plan": "other"}, {"plan": OTHER.digest}):
        answer = ask(web, field)
        assert answer.status_code == 403 and PLAN.digest[:12] in answer.json()["error"]["message"]
    answer = web.post("/v1/responses", json={"input": "Hi"})
    assert answer.status_code == 403 and "without the plan" in answer.json()["error"]["message"]
    assert web.seen.specs == [{"key": web.seen.specs[0]["key"], "plan": PLAN.digest}]
    assert web.delete(f"/v1/personascope/plans/{PLAN.digest}").status_code == 403


def test_a_gate_s_plan_is_held_to_the_policy_too(open_web: Any) -> None:
    web = open_web(default_plan=PLAN.digest, require_plan=True)
    watching = Monitor(Threshold("token", 0.0, 1), layer=2, probe="a", units=(0.0, 1.0), on_alarm=OTHER)
    told = watching.watch().gate()
    assert told is not None
    gate = {"plan": "other", "probe": "a", "alarm": told.alarm.record()}
    for plan in ("other", OTHER.digest, OTHER.digest[:10], "none"):
        answer = ask(web, {"pool": True, "gate": gate | {"plan": plan}})
        assert answer.status_code == 403 and PLAN.digest[:12] in answer.json()["error"]["message"], plan
    assert not web.seen.specs


def test_without_the_engine_s_part_a_planned_server_answers_nothing(open_web: Any, tmp_path: Path) -> None:
    web = open_web(Engine(tmp_path / "store", worker=False), default_plan=PLAN.digest)
    assert ask(web).status_code == 501 and not web.seen.specs
    assert web.get("/ready").status_code == 503


def test_keys_and_limits_are_those_of_the_policy(open_web: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    web = open_web(policy=str(tmp_path / "policy.toml"))
    for key in (None, "hel", "freed"):
        assert ask(web, key=key).status_code == 401
        assert web.get("/v1/personascope/plans").status_code == 401
        assert web.post("/v1/responses", json={}).status_code == 401
    assert plan_of(ask(web, key="held")) == PLAN.digest
    assert ask(web, {"plan": "other"}, key="held").status_code == 403
    headers = {"Authorization": "Bearer held"}
    assert web.post("/v1/personascope/plans", json={}, headers=headers).status_code == 403
    assert web.post("/v1/responses", json={}, headers=headers).status_code == 403
    assert [ask(web, key="free").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert int(ask(web, key="free").headers["retry-after"]) > 0
    assert web.get("/ready").json() == {"ready": True}


def test_keys_without_the_guard_that_asks_for_them_answer_nobody(open_web: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    web = open_web(guard=False, policy=str(tmp_path / "policy.toml"))
    assert ask(web).status_code == ask(web, key="free").status_code == 501
    assert ask(web, {"plan": "push"}, key="held").status_code == 501 and not web.seen.specs
    assert web.get("/v1/personascope/plans").status_code == 501
    assert web.post("/v1/personascope/plans", json={}).status_code == 501


def test_inline_plans_are_made_from_the_map_and_stored(open_web: Any, tmp_path: Path) -> None:
    persona_map = save_map(tmp_path / "run" / "map")
    model = persona_map.model
    engine = Engine(tmp_path / "store", model_id=model.id, revision=model.revision)
    made = open_web(
        engine,
        maker="personascope.live:open_maker",
        maker_args=[str(persona_map.folder), str(tmp_path / "run")],
    )
    at = persona_map.middle_layer
    inline = {"cap": {"percentile": 75, "layers": [at, at + 1]}}
    digest = plan_of(ask(made, {"plan": inline}))
    assert digest is not None
    plan = PlanStore(tmp_path / "store").plan(digest)
    assert plan.layers == (at,) and plan.ops[0].direction == pytest.approx(persona_map.unit_axis(at))
    changed = plan_of(ask(made, {"plan": inline, "override": {"floor": 0.5}}))
    assert changed not in (digest, None)
    answer = ask(made, {"plan": {"steer": 0.1}})
    assert answer.status_code == 400 and "norms" in answer.json()["error"]["message"]


def test_a_policy_that_is_wrong_keeps_the_server_from_starting(open_web: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="speaks of the plan 'gone'"):
        (tmp_path / "policy.toml").write_text("format = 1\n[aliases]\na = 'gone'")
        open_web(policy=str(tmp_path / "policy.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        open_web(policy=str(tmp_path / "nowhere.toml"))


def test_the_schema_has_the_field(open_web: Any) -> None:
    document = open_web().get("/openapi.json").json()
    field = document["components"]["schemas"]["ChatCompletionRequest"]["properties"]["personascope"]
    assert field == {"$ref": "#/components/schemas/PersonascopeRequest"}
    assert "post" in document["paths"]["/v1/personascope/plans"]
