"""Metrics, logs, health and readiness of the server."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest
from live_case import CHAT, Served, body, serving
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import Metrics, Policy, Rules
from personascope.engines._http._metrics import MOST_PLANS, OTHER

DEPLOY = Path(__file__).parents[2] / "deploy"


def samples(served: Served) -> dict[tuple[str, ...], float]:
    """Return the samples of /metrics, by name and labels."""
    # A request is counted after its client has the whole answer.
    until = time.monotonic() + 20
    while True:
        answer = served.http("GET", "/metrics", key=None)
        if "personascope_requests_in_flight 0.0" in answer.text or time.monotonic() > until:
            break
        time.sleep(0.02)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {
        (one.name, *(f"{name}={value}" for name, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }


def test_metrics_tell_positions_firing_and_tokens_by_plan(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        planned = served.chat(field={"plan": "high floor"})
        served.stream()
        assert served.http("POST", CHAT, json={"messages": []}).status_code == 400
        assert served.http("POST", CHAT, key=None, json=body("x")).status_code == 401
        found = samples(served)
        label = f"plan=high floor {served.plan.digest[:8]}"
        assert found["personascope_requests_total", label, "route=chat", "status=200"] == 1
        assert found["personascope_requests_total", "plan=none", "route=chat", "status=200"] == 1
        assert found["personascope_requests_total", "plan=none", "route=chat", "status=400"] == 1
        assert found["personascope_requests_total", "plan=none", "route=chat", "status=401"] == 1
        usage, told = planned["usage"], planned["personascope"]
        assert found["personascope_tokens_total", "kind=reply", label] == usage["completion_tokens"]
        assert found["personascope_tokens_total", "kind=prompt", label] == usage["prompt_tokens"]
        for name in ("position", "position_before", "firing_share", "max_moved"):
            assert found[f"personascope_{name}_count", label] == 1
        assert found["personascope_firing_share_sum", label] == pytest.approx(told["firing"]["share"])
        assert found["personascope_max_moved_sum", label] == pytest.approx(told["firing"]["max_moved"])
        # Positions may be negative, and histograms of such have no sum.
        for name, value in (("position", "position"), ("position_before", "before")):
            for edge in (-2.0, 0.0, 1.0, 3.0):
                below = found[f"personascope_{name}_bucket", f"le={edge}", label]
                assert below == (told["answer"][value] <= edge)
        assert found["personascope_position_count", "plan=none"] == 1
        assert found["personascope_first_token_seconds_count", "route=chat"] == 2
        assert found["personascope_request_seconds_count", "route=chat"] == 3
        assert found["personascope_requests_in_flight",] == 0 == found["personascope_requests_waiting",]
        assert found["personascope_ready",] == 1


def test_every_metric_of_the_dashboard_exists(tmp_path: Path) -> None:
    board = json.loads((DEPLOY / "grafana" / "personascope.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {
        word
        for query in queries
        for word in "".join(c if c.isalnum() or c == "_" else " " for c in query).split()
        if word.startswith("personascope_")
    }
    with serving(tmp_path) as served:
        served.chat(field={"plan": "high floor"})
        there = {name for name, *_ in samples(served)}
    assert len(named) >= 10 and named <= there, named - there


def test_labels_of_plans_are_bounded() -> None:
    from prometheus_client import CollectorRegistry

    metrics = Metrics(CollectorRegistry())
    labels = [metrics.label(hashlib.sha256(str(n).encode()).hexdigest(), f"plan {n}") for n in range(500)]
    assert len(set(labels)) == MOST_PLANS + 1 and labels[-1] == OTHER
    assert metrics.label(hashlib.sha256(b"0").hexdigest(), "plan 0") == labels[0]
    assert metrics.label(None, None) == "none"


def test_alarms_are_counted_once(tmp_path: Path) -> None:
    with serving(tmp_path, monitor=Monitor(Threshold("token", 0.0, 1), layer=2)) as served:
        path = "/v1/personascope/monitor"
        for replies in ([[1.0]], [[1.0], [-1.0]], [[1.0], [-1.0], [1.0]]):
            assert served.http("POST", path, json={"replies": replies}).status_code == 200
        assert samples(served)["personascope_alarms_total",] == 1


def test_a_gate_that_opened_is_an_alarm() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    shut, opened = ({"gate": {"plan": "p", "token": token}, "firing": {"share": 0.5}} for token in (None, 0))
    for field in ({}, shut, opened, {"samples": [shut, opened, opened]}):
        metrics.begun()
        metrics.ended("chat", 200, 1.0, first=None, plan="p", prompt_tokens=1, reply_tokens=1, field=field)
    assert registry.get_sample_value("personascope_alarms_total") == 3
    assert registry.get_sample_value("personascope_firing_share_count", {"plan": "p"}) == 5


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    log = logging.getLogger("personascope.access")
    log.setLevel(logging.INFO)
    log.propagate = True

    def found(count: int) -> list[dict[str, Any]]:
        # A line is written after the client has its whole answer.
        until = time.monotonic() + 20
        while True:
            lines = [record.getMessage() for record in caplog.records if record.name == log.name]
            if len(lines) >= count or time.monotonic() > until:
                assert len(lines) == count
                return [json.loads(line) for line in lines]
            time.sleep(0.02)

    return found


QUESTION = "What is rain in the town of Nowhere?"


def test_a_line_for_each_request_without_texts(tmp_path: Path, lines: Any) -> None:
    policy = Policy(Rules(), ((hashlib.sha256(b"SECRET").digest(), Rules("app")),))
    with serving(tmp_path, key=None, policy=policy) as served:
        answer = served.http("POST", CHAT, key="SECRET", json=body(QUESTION, {"plan": "high floor"}))
        told, usage = answer.json()["personascope"], answer.json()["usage"]
        served.http("POST", CHAT, key="wrong", json=body(QUESTION))
        served.http("POST", CHAT, key="SECRET", json=body(QUESTION, {"plan": "nowhere"}))
        served.http("GET", "/health", key=None)
        served.http("GET", "/v1/models", key="SECRET")
        found = lines(4)
    first, wrong, refused, models = found
    assert first["key"] == "app" and first["path"] == CHAT and first["status"] == 200
    assert first["plan"] == served.plan.digest and first["plan_name"] == "high floor"
    assert first["reply_tokens"] == usage["completion_tokens"]
    assert first["answer_position"] == told["answer"]["position"]
    assert first["firing_share"] == told["firing"]["share"]
    assert 0 <= first["first_text_seconds"] <= first["seconds"] < 60
    assert wrong["status"] == 401 and wrong["key"] is None and "missing or wrong" in wrong["error"]
    assert refused["status"] == 400 and "no plan" in refused["error"] and models["path"] == "/v1/models"
    assert "Nowhere" not in json.dumps(found) and "SECRET" not in json.dumps(found)


def test_texts_are_logged_if_asked_for(tmp_path: Path, lines: Any) -> None:
    with serving(tmp_path, log_texts=True) as served:
        reply = served.chat(QUESTION)["choices"][0]["message"]["content"]
        served.stream(QUESTION)
        whole, streamed = lines(2)
    assert whole["texts"]["messages"][0]["content"] == QUESTION
    assert whole["texts"]["reply"] == reply == streamed["texts"]["reply"]


def test_health_and_readiness(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.http("GET", "/health", key=None).status_code == 200
        assert served.http("GET", "/ready", key=None).json() == {"ready": True}
        served.service.stop()
        # The thread that generates has ended: the process can only be restarted.
        assert served.http("GET", "/health", key=None).status_code == 503
        assert served.http("GET", "/ready", key=None).status_code == 503
        assert math.isclose(samples(served)["personascope_ready",], 0.0)
