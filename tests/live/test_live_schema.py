"""The server held against its own OpenAPI document, by schemathesis and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from live_case import CHAT, KEY, Served, body, serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is in the extra dev")

EXAMPLES = 25
"""Generated requests for each operation."""

SECONDS = 30
"""Time after which a request hangs."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve")) as found:
        yield found


def test_the_document_describes_what_is_there(served: Served) -> None:
    document = served.http("GET", "/openapi.json", key=None).json()
    assert document["openapi"].startswith("3.1")
    chat = document["components"]["schemas"]["ChatBody"]["properties"]
    assert chat["personascope"] == {"$ref": "#/components/schemas/PersonascopeRequest"}
    field = document["components"]["schemas"]["PersonascopeRequest"]["properties"]
    assert set(field) == {"plan", "override", "probes", "pool", "gate", "positions", "space", "layers"}
    reply = served.chat(field={"plan": "high floor", "pool": True, "positions": True})["personascope"]
    described = document["components"]["schemas"]["PersonascopeReply"]["properties"]
    assert set(reply) <= set(described), set(reply) - set(described)
    routes = {route.path.replace(":path}", "}"): route.methods for route in served.server.config.app.routes}
    for path, operations in document["paths"].items():
        assert {method.upper() for method in operations} <= routes[path], path
    undocumented = {path for path in routes if not path.startswith("/page")} - set(document["paths"])
    assert undocumented == {"/", "/openapi.json"}


def held_to(served: Served, operation: Any) -> set[int]:
    """Send generated requests to an operation, and return the statuses; its document must name them all."""
    checks = schemathesis.checks
    statuses: set[int] = set()

    @seed(18)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def hold(case: Any) -> None:
        if isinstance(case.body, dict) and "completions" in operation.path:
            # Generated requests may ask for long replies; their length is not what is tried here.
            case.body["max_tokens"] = 2
            case.body.pop("max_completion_tokens", None)
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = case.call(base_url=served.url, headers=headers, timeout=SECONDS)
        statuses.add(answer.status_code)
        case.validate_response(
            answer,
            checks=(
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ),
        )

    hold()
    return statuses


def test_every_reply_to_generated_requests_is_one_of_the_document(served: Served) -> None:
    document = served.http("GET", "/openapi.json", key=None).json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    assert len(operations) == sum(map(len, document["paths"].values())) > 15
    statuses = {f"{one.method.upper()} {one.path}": held_to(served, one) for one in operations}
    assert statuses["GET /v1/personascope/plans"] == {200} and 200 in statuses["POST /v1/completions"]
    # The server still answers, and nothing is left under way.
    served.idle()
    assert served.chat()["choices"]


def test_a_plan_of_the_document_runs(served: Served) -> None:
    asked = body("What is rain?", {"plan": {"cap": {"percentile": 75, "layers": [1, 2]}}})
    answer = served.http("POST", CHAT, json=asked)
    assert answer.status_code == 200, answer.text
