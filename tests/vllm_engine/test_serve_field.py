"""The plugin's field: heard or refused in any place, spelling and encoding that the server reads."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fake_engine import CHAT, Engine, client
from fastapi import FastAPI
from fastapi.testclient import TestClient

from personascope.engines._vllm.server._routes import PersonascopeEndpoint


def test_the_field_is_refused_where_another_route_would_not_hear_it():
    endpoint, app = PersonascopeEndpoint(), FastAPI()
    endpoint.attach_router(app)

    @app.post("/v1/responses")
    async def other(body: dict[str, Any]) -> dict[str, Any]:
        return body

    web = TestClient(app)
    plain = {"input": "tell me of personascope", "vllm_xargs": {"other": "1"}}
    assert web.post("/v1/responses", json=plain).json() == plain
    for field in ({"personascope": None}, {"vllm_xargs": {"personascope": "{}"}}):
        answer = web.post("/v1/responses", json=plain | field)
        assert answer.status_code == 400
        assert "/v1/responses would leave" in answer.json()["error"]["message"]


WRONG_PLACES: dict[str, dict[str, Any]] = {
    "extra_body": {"extra_body": {"personascope": {"pool": True}}},
    "deeper": {"metadata": {"a": [{"extra_args": {"personascope": {"pool": True}}}]}},
    "a message": {"messages": [{"role": "user", "content": "Hi", "personascope": {"pool": True}}]},
    "capital": {"Personascope": {"pool": True}},
    "hyphen": {"persona-scope": {"pool": True}},
    "xargs capital": {"vllm_xargs": {"PERSONASCOPE": "{}"}},
    "template": {"chat_template_kwargs": {"personascope": {"pool": True}}},
}


@pytest.mark.parametrize("field", WRONG_PLACES.values(), ids=WRONG_PLACES.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le", "escaped"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_the_field_in_a_wrong_place_is_refused(tmp_path, field, encoding, path):
    web = client(Engine(tmp_path))
    text = json.dumps(CHAT | {"prompt": "Hi"} | field)
    if encoding == "escaped":
        # The same text for who reads JSON: \\u0061 is an a.
        text, encoding = re.sub("(?i)persona", lambda m: m[0][:-1] + "\\u0061", text), "ascii"
    headers = {"content-type": "application/json"}
    answer = web.post(path, content=text.encode(encoding), headers=headers)
    assert answer.status_code == 400, answer.text
    assert "would leave" in answer.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_the_field_is_heard_in_every_encoding_that_is_read(tmp_path, encoding):
    web = client(Engine(tmp_path))
    text = json.dumps(CHAT | {"personascope": {"colour": 1}})
    headers = {"content-type": "application/json"}
    answer = web.post("/v1/chat/completions", content=text.encode(encoding), headers=headers)
    assert answer.status_code == 400
    assert "unknown field 'colour'" in answer.json()["error"]["message"]
    answer = web.post("/v1/chat/completions?personascope=%7B%7D", json=CHAT)
    assert answer.status_code == 400 and "in the query" in answer.json()["error"]["message"]


def test_what_is_the_caller_s_own_may_have_any_name(tmp_path):
    web = client(Engine(tmp_path, worker=False))
    schema = {"type": "object", "properties": {"personascope": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    says = {"messages": [{"role": "user", "content": 'What is "personascope": {}?'}], "tools": [tool]}
    # The field is heard, and refused for another reason: the schema did not stand in its way.
    answer = web.post("/v1/chat/completions", json=CHAT | says | {"personascope": {"pool": True}})
    assert answer.status_code == 501, answer.text


def nested(count: int, inner: str = "1") -> str:
    return "[" * count + inner + "]" * count


@pytest.mark.parametrize("count", [200, 900, 100_000])
def test_deep_json_is_refused_on_every_route(tmp_path, count):
    endpoint, app = PersonascopeEndpoint(), FastAPI()
    endpoint.attach_router(app)

    @app.post("/tokenize")
    async def other(body: dict[str, Any]) -> dict[str, Any]:
        return body

    asyncio.run(
        endpoint.init_state(Engine(tmp_path, allow_upload=True), app.state, SimpleNamespace(api_key=None))
    )
    web = TestClient(app, raise_server_exceptions=False)
    headers = {"content-type": "application/json"}
    body = '{"model": "m", "messages": ' + nested(count) + "}"
    for path in (
        "/v1/chat/completions",
        "/v1/completions",
        "/tokenize",
        "/v1/personascope/plans",
        "/v1/personascope/probes",
    ):
        answer = web.post(path, content=body, headers=headers)
        assert answer.status_code == 400, (path, answer.text[:200])
    flat = {"input": [[number] for number in range(500)]}
    assert web.post("/tokenize", json=flat).json() == flat
