"""Who may ask under which plan: required plans, keys with rules, overrides; a fuzz of the required plan."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_case import CHAT, Served, body, serving, unit, upload_of

from personascope.engines import Policy, Rules
from personascope.engines._http._policy import Quota
from personascope.errors import UsageError
from personascope.interventions import Plan, Steer

ASK = body("What is rain?", max_tokens=3)


def key(text: str, **rules: Any) -> tuple[bytes, Rules]:
    """Return a key as policies keep it; its name is its text."""
    return hashlib.sha256(text.encode()).digest(), Rules(text, **rules)


POLICY = Policy(
    Rules(),
    (
        key("operator"),
        key("held", require_plan="calm", read_only=True),
        key("some", plans=("calm", "none")),
        key("writer", plans=("inline",), default_plan="calm"),
        key("slow", requests_per_minute=2),
        key("short", tokens_per_minute=5),
        key("one", max_concurrent=1),
    ),
    {"calm": "high floor"},
    Quota(plans=3),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve"), key=None, policy=POLICY) as found:
        yield found


def asked(served: Served, whose: str, field: Any = None, **more: Any) -> httpx.Response:
    value = ASK | more | ({} if field is None else {"personascope": field})
    return served.http("POST", CHAT, key=whose, json=value)


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()["personascope"]


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert all(word in message for word in words), message


def test_only_known_keys_are_answered(served: Served) -> None:
    for wrong in (None, "operato", "operator1", "nobody"):
        answer = served.http("POST", CHAT, key=wrong, json=ASK)
        refused(answer, 401, "missing or wrong")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert told(asked(served, "operator"))["plan"] is None
    assert served.http("GET", "/metrics", key=None).status_code == 200


def test_no_request_switches_a_required_plan_off(served: Served) -> None:
    digest = served.plan.digest
    for field in (None, {"plan": "calm"}, {"plan": "high floor"}, {"plan": digest}, {"plan": digest[:8]}):
        found = told(asked(served, "held", field))
        assert found["plan"] == digest and found["plan_name"] == "high floor"
    inline = {"cap": {"percentile": 75, "layers": [1, 2]}}
    for field in ({"plan": None}, {"plan": "none"}, {"plan": inline}, {"override": {"floor": 1.0}}):
        refused(asked(served, "held", field), 403, "'held'", "calm", digest[:12])
    refused(asked(served, "held", {"plan": "nowhere"}), 400, "no plan")


def test_a_key_has_its_plans_and_its_default(served: Served) -> None:
    assert told(asked(served, "some"))["plan"] is None
    assert told(asked(served, "some", {"plan": "calm"}))["plan"] == served.plan.digest
    refused(asked(served, "some", {"plan": {"steer": 0.1}}), 403, "'some'", "allowed are calm, none")
    assert told(asked(served, "writer"))["plan"] == served.plan.digest
    assert told(asked(served, "writer", {"plan": {"steer": 0.1}}))["plan"] not in (None, served.plan.digest)
    refused(asked(served, "writer", {"plan": None}), 403, "no plan")


def test_limits_name_themselves_and_the_time(served: Served) -> None:
    assert [asked(served, "slow").status_code for _ in range(2)] == [200, 200]
    answer = asked(served, "slow")
    refused(answer, 429, "'slow'", "2 requests a minute")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert asked(served, "short").status_code == 200  # One that begins within its limit is finished.
    refused(asked(served, "short"), 429, "5 tokens a minute")
    assert asked(served, "operator").status_code == 200


def test_a_key_with_one_request_at_a_time(served: Served) -> None:
    done: list[int] = []
    long = threading.Thread(target=lambda: done.append(asked(served, "one", max_tokens=300).status_code))
    long.start()
    until = time.monotonic() + 30
    while not served.service.running and time.monotonic() < until:
        time.sleep(0.005)
    answer = asked(served, "one")
    refused(answer, 429, "1 requests at a time")
    assert answer.headers["retry-after"] == "1"
    long.join(60)
    assert done == [200] and asked(served, "one").status_code == 200


def test_read_only_keys_pinned_plans_and_the_quota(served: Served, tmp_path: Path) -> None:
    width, path = served.mapped.persona_map.d_model, "/v1/personascope/plans"
    plans = [Plan((Steer(1, unit(width, seed), 2.0),), None, f"plan {seed}") for seed in range(3)]
    sent = [upload_of(plan, tmp_path / plan.name) for plan in plans]
    refused(served.http("POST", path, key="held", json=sent[0]), 403, "'held'", "may not change")
    refused(served.http("DELETE", f"{path}/{served.plan.digest}", key="held"), 403, "may not change")
    refused(served.http("DELETE", f"{path}/{served.plan.digest}", key="operator"), 403, "runs requests under")
    codes = [served.http("POST", path, key="operator", json=one).status_code for one in sent]
    assert codes == [200, 200, 403]  # With the plan of the start, two more are the quota.
    refused(served.http("POST", path, key="operator", json=sent[2]), 403, "3 plans, its quota")
    assert served.http("POST", path, key="operator", json=sent[1]).status_code == 200
    for plan in plans[:2]:
        assert served.http("DELETE", f"{path}/{plan.digest}", key="operator").status_code == 200


def test_a_policy_that_speaks_of_no_plan_is_refused_at_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="speaks of the plan 'gone'"),
        serving(tmp_path, policy=Policy(Rules(require_plan="gone"))),
    ):
        pytest.fail("the server started")


def test_a_short_digest_of_two_plans_names_both(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["ab" * 32, "ab" * 31 + "cd"]
    monkeypatch.setattr(served.service.book.store, "digests", lambda _: both)
    answer = asked(served, "operator", {"plan": "ab" * 30})
    refused(answer, 400, "2 plans", both[0], both[1])


def test_floor_and_strength_are_changed_for_one_request(served: Served) -> None:
    persona_map = served.mapped.persona_map
    at = persona_map.middle_layer
    low = told(asked(served, "operator", {"plan": "calm", "override": {"floor": -50.0}}, max_tokens=12))
    assert low["plan"] != served.plan.digest and low["plan_name"] == "high floor (floor -50)"
    assert low["firing"]["capped_tokens"] == 0
    high = told(asked(served, "operator", {"plan": "calm", "override": {"floor": 3.0}}, max_tokens=12))
    assert high["answer"]["position"] >= 3.0 - 1e-3 and high["firing"]["share"] > 0.5
    plan = served.service.book.resolve("calm")
    changed = served.service.book.choose({"plan": "calm", "override": {"floor": 3.0}}, Rules())
    mean_role, default = persona_map.units(at)
    assert plan is not None and changed is not None and changed.digest == high["plan"]
    assert changed.ops[0].floor == pytest.approx(mean_role + 3.0 * (default - mean_role))
    inline = {"cap": {"percentile": 75, "layers": [at, at + 1]}}
    by_percentile = told(asked(served, "operator", {"plan": "calm", "override": {"percentile": 75}}))
    assert by_percentile["plan"] == told(asked(served, "operator", {"plan": inline}))["plan"]
    steer = {"plan": {"steer": 0.2}, "override": {"strength": -0.1}}
    assert (
        told(asked(served, "operator", steer))["plan"]
        == told(asked(served, "operator", {"plan": {"steer": -0.1}}))["plan"]
    )


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ({"override": {"floor": 1}}, "needs a plan"),
        ({"plan": "calm", "override": {}}, "the override is {}"),
        ({"plan": "calm", "override": {"colour": 1}}, "the override is"),
        ({"plan": "calm", "override": {"floor": "x"}}, "'x'"),
        ({"plan": "calm", "override": {"floor": 1e300}}, "1e+300"),
        ({"plan": "calm", "override": {"floor": 1, "percentile": 2}}, "floor and percentile"),
        ({"plan": "calm", "override": {"percentile": 101}}, "101"),
        ({"plan": "calm", "override": {"strength": 0.1}}, "nothing that strength changes"),
        ({"plan": {"steer": 0.1}, "override": {"floor": 1}}, "nothing that floor changes"),
    ],
)
def test_overrides_that_change_nothing_or_are_none(served: Served, field: dict[str, Any], word: str) -> None:
    refused(asked(served, "operator", field), 400, word)


def fuzzed(draw: random.Random, plan: Plan) -> tuple[str, dict[str, Any]]:
    """Return path and body of a request that may try to escape a required plan."""
    inline: list[Any] = [{"steer": 0.1}, {"cap": {"percentile": 5, "layers": [1, 2]}}, {}, {"steer": None}]
    names: list[Any] = [None, "none", "", "None", "high floor", plan.digest, plan.digest[:9], "0" * 64, 0, []]
    field: Any = {}
    if draw.random() < 0.8:
        field["plan"] = draw.choice(names + inline)
    if draw.random() < 0.3:
        field["override"] = draw.choice([{"floor": -9.0}, {"strength": 0}, None, {}, "x"])
    if draw.random() < 0.2:
        field["positions"] = draw.choice([True, False, None, 1])
    if draw.random() < 0.1:
        field = draw.choice([None, [], "x", {"PLAN": "none"}, {"plan ": None}])
    chat = draw.random() < 0.7
    value: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
    value |= {"messages": ASK["messages"]} if chat else {"prompt": "rain"}
    place = draw.choice(
        ["own", "own", "own", "none", "xargs", "both", "Persona_Scope", "extra_body", "metadata"]
    )
    if place in ("own", "both"):
        value["personascope"] = field
    if place in ("xargs", "both"):
        value["vllm_xargs"] = {"personascope": json.dumps(field)}
    if place == "Persona_Scope":
        value[place] = field
    if place in ("extra_body", "metadata"):
        value[place] = {"personascope": field}
    if draw.random() < 0.3:
        value["stream"] = True
    path = CHAT if chat else "/v1/completions"
    return (path if draw.random() < 0.95 else "/v1/responses"), value


def test_of_500_fuzzed_requests_none_is_answered_without_the_required_plan(tmp_path: Path) -> None:
    draw = random.Random(18)
    with serving(tmp_path, key=None, policy=Policy(Rules(require_plan="high floor"))) as served:
        counts = {200: 0, 400: 0, 403: 0, 404: 0}
        with httpx.Client(base_url=served.url, timeout=60) as client:
            for _ in range(500):
                path, value = fuzzed(draw, served.plan)
                answer = client.post(path, json=value)
                counts[answer.status_code] += 1
                if answer.status_code != 200:
                    assert answer.json()["error"]["message"]
                    continue
                lines = answer.text.split("data: ")[-2] if value.get("stream") else answer.text
                assert json.loads(lines)["personascope"]["plan"] == served.plan.digest, value
        assert counts[200] > 80 and counts[400] > 80 and counts[403] > 20, counts
