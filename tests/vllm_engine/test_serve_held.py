"""A real vLLM server whose requests run under a required plan: stock and hostile clients, metrics and log."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from folder_case import saved
from serve_case import Served, openai, serve, start, stop

from personascope.interventions import Cap, Plan

PLAN = Plan((Cap(1, np.ones(64, np.float32), floor=0.5),), name="calm")
OTHER = Plan((Cap(1, np.ones(64, np.float32), floor=0.9),), name="other")
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Who lives in Nowhere?"}], "max_tokens": 4}
POLICY = """
format = 1
[[keys]]
name = "app"
env = "APP_KEY"
read_only = true
[[keys]]
name = "few"
env = "FEW_KEY"
requests_per_minute = 2
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("held")
    saved("qwen3", folder / "model", max_position_embeddings=512)
    PLAN.save(folder / "plan")
    OTHER.save(folder / "other")
    (folder / "policy.toml").write_text(POLICY)
    keys = {"APP_KEY": "app secret", "FEW_KEY": "few secret"}
    with pytest.MonkeyPatch.context() as patch, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for name, value in keys.items():
            patch.setenv(name, value)
        ran = serve(
            *(folder / "model", "--port", port, "--dtype", "float32", "--plan-store", folder / "plans"),
            *("--plan", folder / "plan", "--plan", folder / "other", "--default-plan", "calm"),
            *("--require-plan", "--policy", folder / "policy.toml"),
            *("--", "--max-model-len", 512, "--max-num-seqs", 8, "--kv-cache-memory-bytes", 256 << 20),
            *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        )
    assert ran.returncode == 0, ran.stderr
    url = f"http://127.0.0.1:{port}"
    process = start(ran.stdout.strip(), folder / "log", url, **keys)
    served = Served(url, folder / "log", folder / "plans")
    served.model = str(folder / "model")  # type: ignore[attr-defined]
    yield served
    stop(process)
    assert not [key for key in keys.values() if key in (folder / "log").read_text(errors="replace")]


def post(held: Any, path: str = "/v1/chat/completions", key: str = "app secret", **more: Any) -> Any:
    return held.http("POST", path, key, json={"model": held.model, **ASK} | more)


def test_stock_clients_run_under_the_plan_and_are_told(held: Any) -> None:
    client = openai.OpenAI(base_url=f"{held.url}/v1", api_key="app secret", max_retries=0, timeout=120)
    options = {"model": held.model, **ASK}
    assert client.chat.completions.create(**options).personascope["plan"] == PLAN.digest
    *_, last = client.chat.completions.create(**options, stream=True)
    assert last.personascope["plan"] == PLAN.digest and last.personascope["plan_name"] == "calm"
    text = client.completions.create(model=held.model, prompt="Hi", max_tokens=2)
    assert text.personascope["firing"]["tokens"] > 0
    for field in ({"plan": None}, {"plan": "other"}):
        with pytest.raises(openai.PermissionDeniedError, match="cannot change"):
            client.chat.completions.create(**options, extra_body={"personascope": field})
    with pytest.raises(openai.PermissionDeniedError, match="without the plan"):
        client.responses.create(model=held.model, input="Hi")
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    called = client.chat.completions.create(**options, tools=tools)
    assert called.personascope["plan"] == PLAN.digest


def test_keys_limits_and_the_store(held: Any) -> None:
    assert post(held, key="wrong").status_code == 401
    assert held.http("GET", "/v1/models", None).status_code == 401
    assert [post(held, key="few secret").status_code for _ in range(3)] == [200, 200, 429]
    plans = "/v1/personascope/plans"
    assert held.http("POST", plans, "app secret", json={}).status_code == 403
    assert held.http("DELETE", f"{plans}/{PLAN.digest}", "few secret").status_code == 403


def test_hostile_requests_are_never_answered_without_the_digest(held: Any) -> None:
    draw, counts = random.Random(18), dict.fromkeys((200, 400, 403), 0)
    values: list[Any] = [
        None,
        "none",
        "other",
        "calm",
        PLAN.digest,
        PLAN.digest[:8],
        OTHER.digest,
        "x",
        {},
        3,
    ]
    for _ in range(60):
        field = {"plan": draw.choice(values)} if draw.random() < 0.8 else draw.choice([{}, None, [], "x"])
        more: dict[str, Any] = {"max_tokens": 1, "stream": draw.random() < 0.3}
        place = draw.choice(["own", "xargs", "extra_body", "absent"])
        if place == "own":
            more["personascope"] = field
        elif place == "xargs":
            more["vllm_xargs"] = {"personascope": json.dumps(field)}
        elif place == "extra_body":
            more["extra_body"] = {"personascope": field}
        answer = post(held, **more)
        counts[answer.status_code] += 1
        if answer.status_code == 200:
            text = answer.text.split("data: ")[-2] if more["stream"] else answer.text
            assert json.loads(text)["personascope"]["plan"] == PLAN.digest, more
    assert min(counts.values()) > 5, counts


def test_metrics_log_and_readiness(held: Any) -> None:
    assert post(held).status_code == 200
    assert held.http("GET", "/ready", None).json() == {"ready": True}
    metrics = held.http("GET", "/metrics", None).text
    label = f"calm {PLAN.digest[:8]}"
    assert f'personascope_requests_total{{plan="{label}",route="chat",status="200"}}' in metrics
    assert f'personascope_tokens_total{{kind="reply",plan="{label}"}}' in metrics
    assert "personascope_ready 1.0" in metrics and "vllm:num_requests_waiting" in metrics
    log = held.log.read_text(errors="replace")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]
    last = [line for line in lines if line["status"] == 200 and line["path"].endswith("completions")][-1]
    assert last["plan"] == PLAN.digest and last["key"] == "app" and last["reply_tokens"] == 4
    assert last["prompt_tokens"] > 0 and 0 <= last["firing_share"] <= 1
    assert not any("Nowhere" in line for line in log.splitlines() if line.startswith('{"time"'))
    document = held.http("GET", "/openapi.json", None).json()
    assert "PersonascopeRequest" in document["components"]["schemas"]
