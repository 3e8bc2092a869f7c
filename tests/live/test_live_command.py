"""``personascope serve --engine transformers`` as a process, and its arguments, which are checked first."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from live_case import CHAT, body

from eval_case import tiny_run
from helpers.cli import personascope
from personascope import engines
from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines._vllm.request._spec import FIELD as VLLM_FIELD
from personascope.interventions import Plan, Steer
from personascope.live._reply import FIELD
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model"))


def pushing(folder: Path) -> Plan:
    """Save a plan of the tiny Llama."""
    plan = Plan((Steer(1, np.eye(48, dtype=np.float32)[0], 2.0),), None, "push")
    plan.save(folder)
    return plan


def test_a_process_serves_and_ends_on_sigterm(model: Path, tmp_path: Path) -> None:
    plan = pushing(tmp_path / "plan")
    process = subprocess.Popen(
        [sys.executable, "-m", "personascope", "serve", str(model), "--engine", "transformers", "--port", "0",
         "--plan", str(tmp_path / "plan"), "--plan-store", str(tmp_path / "store"), "--api-key", "SECRET",
         "--dtype", "float32"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+) ", line)
        assert found, line + process.stderr.read()
        url, headers = found[1], {"Authorization": "Bearer SECRET"}
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(base_url=url, headers=headers, timeout=60, transport=transport) as client:
            stock = client.post(CHAT, json=body("Hi")).json()
            assert stock["personascope"]["plan_name"] == "push"
            chunks: list[str] = []

            def stream() -> None:
                asked = body("Hi", max_tokens=400, stream=True)
                with client.stream("POST", CHAT, json=asked) as answer:
                    chunks.extend(one for one in answer.iter_lines() if one)

            asking = threading.Thread(target=stream)
            asking.start()
            while not client.get("/v1/personascope/stats").json()["running"] and asking.is_alive():
                pass
            process.send_signal(signal.SIGTERM)
            asking.join(60)
        assert chunks[-1] == "data: [DONE]" and "push" in chunks[-2]
        assert process.wait(30) == 0
        log = process.stderr.read()
        assert "SECRET" not in log and "Traceback" not in log and f"plan {plan.digest} push" in log
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: pytest.fail("a model was loaded"))


def refused(code: int, word: str, *args: Any) -> None:
    done = personascope("serve", "some/model", "--engine", "transformers", "--port", "0", *args)
    assert done.code == code, (done.out, done.err)
    assert word in " ".join(done.err.split()), done.err


@pytest.mark.usefixtures("no_model")
def test_arguments_are_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    Monitor(Threshold("token", 0.0), layer=1).save(tmp_path / "monitor.json")
    pushing(tmp_path / "plan")
    run = tiny_run()
    refused(2, "is none of the plans", "--plan", tmp_path / "plan", "--default-plan", "pull")
    refused(1, "nowhere", "--plan", tmp_path / "nowhere")
    refused(2, "need", "--layer", "1")
    refused(2, "need", "--monitor", tmp_path / "monitor.json")
    refused(2, "is not in the map", "--map", run, "--layer", "99", "--anyway")
    refused(
        2, "reads layer 1", "--map", run, "--anyway", "--layer", "2", "--monitor", tmp_path / "monitor.json"
    )
    refused(2, "is for vLLM", "--", "--max-model-len", "8192")
    refused(2, "--thinking", "--thinking", "maybe")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(2, "cannot be listened at", "--port", taken.getsockname()[1])


@pytest.mark.usefixtures("no_model")
def test_a_layer_without_a_map_is_refused_by_vllm_s_server_too() -> None:
    done = personascope("serve", "some/model", "--print-command", "--layer", "1")
    assert done.code == 2 and "needs positions" in done.err and "--map" in done.err


def test_the_field_is_that_of_the_vllm_server() -> None:
    assert FIELD == VLLM_FIELD
