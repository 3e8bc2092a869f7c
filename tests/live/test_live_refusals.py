"""What the server refuses, and in which form; hostile bodies; uploads; the monitor; the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_case import CHAT, KEY, Served, body, serving, unit, upload_of

from personascope.dynamics.monitor import Monitor, Threshold
from personascope.interventions import Plan, Steer

ASK = body("What is rain?")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve")) as found:
        yield found


def test_a_missing_or_wrong_key(served: Served) -> None:
    for key in (None, "wrong", KEY + "x", KEY[:-1]):
        for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/personascope/about")):
            answer = served.http(method, path, key=key, json=ASK if method == "POST" else None)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == 401
    assert served.http("GET", "/health", key=None).status_code == 200
    assert served.http("GET", "/ready", key=None).json() == {"ready": True}
    assert served.http("GET", "/", key=None).status_code == 200


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"personascope": {"plan": "nowhere"}}, "no plan"),
        ({"personascope": {"plan": "0" * 64}}, "no plan"),
        ({"personascope": {"plan": "../../etc"}}, "no plan"),
        ({"personascope": {"plan": 7}}, "plan is 7"),
        ({"personascope": {"probes": "f" * 64}}, "no probe set"),
        ({"personascope": {"gates": True}}, "unknown field 'gates'"),
        ({"personascope": {}}, "asks for nothing"),
        ({"personascope": []}, "not an object"),
        ({"personascope": {"pool": 1}}, "pool is 1"),
        ({"personascope": {"plan": {"cap": {"percentile": 101, "layers": [1, 2]}}}}, "percentile 101"),
        ({"personascope": {"plan": {"cap": {"percentile": 75, "layers": [1, 99]}}}}, "[1, 99]"),
        ({"personascope": {"plan": {"cap": {"percentile": 75, "layers": [True, 2]}}}}, "[True, 2]"),
        ({"personascope": {"plan": {"cap": {"percentile": 10**400, "layers": [1, 2]}}}}, "percentile"),
        ({"personascope": {"plan": {"steer": "much"}}}, "'much'"),
        ({"personascope": {"plan": {"steer": {"strength": 0.1, "layer": 99}}}}, "99"),
        ({"personascope": {"plan": {"ablate": 1}}}, "inline plan"),
        ({"personascope": {"plan": {"steer": 1e40}}}, "1e+40"),
        ({"Personascope": {"plan": "x"}}, "unheard"),
        ({"extra_body": {"personascope": {}}}, "unheard"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "system", "content": "", "reasoning": "x"}]}, "only the assistant reasons"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"n": 2}, "n is 2"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"no_such_option": 1}, "no_such_option"),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, "the model reads"),
    ],
)
def test_what_cannot_be_honoured_gets_400_and_never_runs(
    served: Served, changes: dict[str, Any], word: str
) -> None:
    for stream in (False, True):
        assert word in served.refused(400, json=ASK | changes | {"stream": stream})


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 5000, b'{"a":' * 400 + b"1" + b"}" * 400]
)
def test_bodies_that_are_no_request(served: Served, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert served.refused(400, content=content, headers=headers)
    assert served.refused(415, content=content, headers={"Content-Type": "text/plain"})


@pytest.mark.parametrize("prompt", [[408], [-1], [2**70], [True], [], ["a", "b"], [[1, 2]], {"a": 1}])
def test_prompts_that_the_model_cannot_read(served: Served, prompt: Any) -> None:
    assert served.refused(400, path="/v1/completions", json={"prompt": prompt, "max_tokens": 2})


def test_other_statuses(served: Served) -> None:
    assert "there is no model 'gpt'" in served.refused(404, json=ASK | {"model": "gpt"})
    assert served.refused(404, path="/v1/responses", json=ASK)
    assert served.refused(405, path="/v1/models", json={})
    assert served.refused(405, path="/v1/personascope/stats", json={})
    big = json.dumps(ASK | {"user": "x" * (17 << 20)}).encode()
    assert "16 MiB" in served.refused(413, content=big, headers={"Content-Type": "application/json"})
    assert served.http("GET", "/v1/models").json()["data"][0]["id"] == served.service.admission.model
    assert served.http("GET", f"/v1/models/{served.service.admission.model}").status_code == 200


def test_plans_are_uploaded_listed_and_deleted(served: Served, tmp_path: Path) -> None:
    width = served.mapped.persona_map.d_model
    plan = Plan((Steer(1, unit(width, 3), 2.0),), None, "sent")
    sent = served.http("POST", "/v1/personascope/plans", json=upload_of(plan, tmp_path / "plan"))
    assert sent.json() == {"digest": plan.digest}
    listed = served.http("GET", "/v1/personascope/plans").json()
    assert plan.digest in [one["digest"] for one in listed["plans"]] and listed["next"] is None
    page = served.http("GET", "/v1/personascope/plans?limit=1").json()
    assert page["next"] == page["plans"][0]["digest"]
    assert served.http("GET", f"/v1/personascope/plans/{plan.digest}").json()["name"] == "sent"
    assert served.chat(field={"plan": "sent"})["personascope"]["plan"] == plan.digest
    assert served.http("DELETE", f"/v1/personascope/plans/{plan.digest}").json()["deleted"] is True
    assert served.http("GET", f"/v1/personascope/plans/{plan.digest}").status_code == 404
    assert "no plan" in served.refused(400, json=ASK | {"personascope": {"plan": "sent"}})
    wide = Plan((Steer(1, unit(width + 1, 3), 2.0),), None, "wide")
    path = "/v1/personascope/plans"
    assert "width" in served.refused(400, path=path, json=upload_of(wide, tmp_path / "wide"))
    assert served.refused(400, path=path, json={"plan": {}, "tensors": "?"})
    for direction in ([], ["x"], [1e300], [True], [10**400]):
        probes = [{"name": "a", "layer": 1, "direction": direction}]
        assert served.refused(400, path="/v1/personascope/probes", json=probes)


def test_a_server_without_a_key_takes_no_uploads(tmp_path: Path) -> None:
    with serving(tmp_path, key=None) as served:
        plan = upload_of(served.plan, tmp_path / "plan")
        assert "no API key" in served.refused(403, path="/v1/personascope/plans", json=plan)
        assert served.http("DELETE", f"/v1/personascope/plans/{served.plan.digest}").status_code == 403
    with serving(tmp_path, key=None, allow_upload=True) as served:
        assert served.http("POST", "/v1/personascope/plans", json=plan).status_code == 200


def test_what_is_served_is_described(served: Served) -> None:
    about = served.http("GET", "/v1/personascope/about").json()
    persona_map = served.mapped.persona_map
    assert about["n_layers"] == persona_map.n_layers and about["map"]["layer"] == persona_map.middle_layer
    assert about["inline"] == {"cap": True, "steer": True} and about["monitor"] is None
    (plan,) = [one for one in about["plans"] if one["digest"] == served.plan.digest]
    assert plan["names"] == ["high floor", "floor-folder"]
    assert served.refused(404, path="/v1/personascope/monitor", json={"replies": []})


def test_the_monitor_says_where_its_alarm_is(tmp_path: Path) -> None:
    monitor = Monitor(Threshold("token", 0.0, 2), layer=2)
    with serving(tmp_path, monitor=monitor) as served:
        path, replies = "/v1/personascope/monitor", [[1.0, 0.5], [-0.4, -0.7, 2.0], []]
        found = served.http("POST", path, json={"replies": replies}).json()
        assert [reply["alarm"] for reply in found["replies"]] == [None, 1, None]
        assert found["alarmed"] and found["limit"] == 0.0
        # A conversation that goes on is a conversation of its own: nothing is kept.
        assert not served.http("POST", path, json={"replies": [[1.0]]}).json()["alarmed"]
        for wrong in ([], {"replies": [1]}, {"replies": [["x"]]}, {"replies": [[1e300]]}):
            assert served.refused(400, path=path, json=wrong)
        assert served.http("GET", "/v1/personascope/about").json()["monitor"]["limit"] == 0.0


def test_the_page_runs_nothing_but_its_own_files(served: Served) -> None:
    page = served.http("GET", "/", key=None)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "onclick" not in page.text and "<script>" not in page.text and "style=" not in page.text
    assert served.http("GET", "/page/../_app.py", key=None).status_code == 404


def test_a_shutdown_lets_what_is_under_way_end(tmp_path: Path) -> None:
    with serving(tmp_path, drain=30, slow=0.02) as served:
        done: list[Any] = []
        asking = threading.Thread(
            target=lambda: done.append(served.stream(field={"positions": True}, max_tokens=150))
        )
        asking.start()
        while not served.service.running:
            time.sleep(0.01)
        served.server.handle_exit(15, None)
        assert served.http("GET", "/ready", key=None).status_code == 503
        assert "shutting down" in served.refused(503, json=ASK)
        asking.join(60)
        (chunks,) = done
        assert chunks[-1] == "[DONE]" and "answer" in chunks[-2]["personascope"]


def test_what_is_not_done_at_the_deadline_gets_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, drain=0.2, slow=0.05) as served:
        headers = {"Authorization": f"Bearer {KEY}"}
        found: dict[str, Any] = {}

        def whole() -> None:
            found["whole"] = httpx.post(
                f"{served.url}{CHAT}", json=ASK | {"max_tokens": 2000}, headers=headers, timeout=60
            )

        asking = [
            threading.Thread(target=whole),
            threading.Thread(target=lambda: found.update(stream=served.stream(max_tokens=2000))),
        ]
        for one in asking:
            one.start()
        while served.service.running < 2:
            time.sleep(0.01)
        served.server.handle_exit(15, None)
        for one in asking:
            one.join(30)
        assert found["whole"].status_code == 503
        assert found["whole"].json()["error"]["type"] == "ServiceUnavailableError"
        assert found["stream"][-1] == "[DONE]" and found["stream"][-2]["error"]["code"] == 503
