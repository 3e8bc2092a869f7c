"""A server of its own process, what a test asks it, and what the reference engine answers."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from vllm_case import directions

from personascope.chat import Message
from personascope.engines import Capture, Probe, Request, Sampling
from personascope.interventions import Plan

openai = pytest.importorskip("openai", reason="openai comes with vLLM")

KEY = "serve-test"
MODEL = "smollm2-135m"
QUESTION = "Tell me about the sea."
PROBES = [
    Probe("early", 4, directions(576)[0]),
    Probe("late", 29, directions(576)[1]),
]


@dataclass
class Served:
    """A server that answers, and what was put into its plan store before it started."""

    url: str
    log: Path
    store: Path

    def client(self) -> Any:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=120)

    def http(self, method: str, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if "content" in options:
            headers["Content-Type"] = "application/json"
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=120, **options)

    def stats(self) -> dict[str, int]:
        found = self.http("GET", "/v1/personascope/stats").json()
        return {"under_way": found["under_way"], **found["workers"][0]}

    def upload(self, plan: Plan, folder: Path) -> httpx.Response:
        plan.save(folder)
        tensors = base64.b64encode((folder / "plan.safetensors").read_bytes()).decode()
        record = json.loads((folder / "plan.json").read_text())
        return self.http("POST", "/v1/personascope/plans", json={"plan": record, "tensors": tensors})


def serve(*args: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "personascope", "serve", "--print-command", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(command: str, log: Path, url: str, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            # The printed command takes the key from the environment, and does not show it.
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {"VLLM_API_KEY": KEY})},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + 480
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return process
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            stop(process)
            pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-6000:]}")
        time.sleep(0.5)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def ask(served, value: Any = None, *, question: str = QUESTION, own: bool = False, **options: Any) -> Any:
    body: dict[str, Any] = {"return_token_ids": True}
    if value is not None:
        body |= {"personascope": value} if own else {"vllm_xargs": {"personascope": json.dumps(value)}}
    options = {"temperature": 0, "max_tokens": 24, **options}
    messages = [{"role": "user", "content": question}]
    return served.client().chat.completions.create(model=MODEL, messages=messages, extra_body=body, **options)


def wanted(reference, plan: Plan | None = None, *, question: str = QUESTION, probes: Any = ()) -> Any:
    """Return the reference's completion; its projections leave the last token out."""
    request = Request(
        "x",
        (Message("user", question),),
        Sampling(temperature=0, max_new_tokens=24),
        plan=plan,
        probes=tuple(probes),
        capture=Capture(),
    )
    (completion,) = reference.run([request])
    return completion


def quiet(served) -> dict[str, int]:
    """Return the statistics once nothing is under way; the worker hears of an end a moment later."""
    until = time.monotonic() + 20
    while True:
        stats = served.stats()
        left = stats["under_way"] + stats["requests"] + stats["results"]
        if (not left and stats["slots"] == stats["free_slots"]) or time.monotonic() > until:
            return stats
        time.sleep(0.2)


def token_ids(choice: Any) -> list[int]:
    """Return the tokens of a chunk; the first chunk, which says the role, has none."""
    return getattr(choice, "token_ids", None) or []


def near(got: list[float], want: np.ndarray) -> bool:
    return len(got) == len(want) and bool(np.abs(np.array(got) - want).max() <= 1e-3 * np.abs(want).mean())
