"""A server of a model with a thinking switch: what it renders, a common client's loop, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from folder_case import saved
from serve_case import KEY, Served, serve, start, stop

from personascope.chat import Message
from personascope.interventions import Cap, Plan
from personascope.models import open_files

PLAN = Plan((Cap(1, np.ones(64, np.float32), floor=0.5),))
TALK = [{"role": "user", "content": "Who are you?"}]
LONG, SHORT = 3900, 1500
"""Tokens of a response that is under way when the server is told to end: one is cut, one finishes."""


@dataclass
class Started:
    """A server, its process, and the model's folder."""

    served: Served
    process: Any
    model: str

    def body(self, **more: Any) -> dict[str, Any]:
        plain = {"model": self.model, "messages": TALK, "temperature": 0, "ignore_eos": True}
        return plain | more

    def planned(self, **more: Any) -> dict[str, Any]:
        return self.body(personascope={"plan": PLAN.digest}, **more)

    def post(self, body: dict[str, Any]) -> httpx.Response:
        return self.served.http("POST", "/v1/chat/completions", json=body)

    def stream(self, body: dict[str, Any], began: threading.Event) -> list[str]:
        """Return the events of a stream; of a connection that is cut, the reason is the last one."""
        events: list[str] = []
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{self.served.url}/v1/chat/completions"
        try:
            with httpx.stream(
                "POST", url, json=body | {"stream": True}, headers=headers, timeout=60
            ) as answer:
                for line in answer.iter_lines():
                    events += [line] if line else []
                    if len(events) > 3:
                        began.set()
        except httpx.TransportError as error:
            events.append(f"cut: {error!r}")
        return events

    def end(self) -> float:
        """Tell the server, alone, to end; return the seconds that it took."""
        begin = time.monotonic()
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(60)
        return time.monotonic() - begin


@contextmanager
def server(folder: Path, *extra: Any) -> Iterator[Started]:
    saved("qwen3", folder / "model", max_position_embeddings=4096)
    PLAN.save(folder / "plan")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = serve(
        *(folder / "model", "--port", port, "--api-key", KEY, "--dtype", "float32"),
        *(
            "--plan-store",
            folder / "plans",
            "--plan",
            folder / "plan",
            "--default-plan",
            "none",
            "--drain",
            0,
        ),
        *("--", "--max-model-len", 4096, "--max-num-seqs", 8, *extra),
    )
    assert ran.returncode == 0, ran.stderr
    assert KEY not in ran.stdout + ran.stderr
    url = f"http://127.0.0.1:{port}"
    process = start(ran.stdout.strip(), folder / "log", url)
    try:
        yield Started(Served(url, folder / "log", folder / "plans"), process, str(folder / "model"))
    finally:
        stop(process)
        assert KEY not in (folder / "log").read_text(errors="replace")


def under_way(pool: ThreadPoolExecutor, started: Started, *bodies: dict[str, Any]) -> list[Future[list[str]]]:
    """Start streams, and return once each has sent something."""
    began = [threading.Event() for _ in bodies]
    found = [pool.submit(started.stream, body, event) for body, event in zip(bodies, began, strict=True)]
    assert all(event.wait(60) for event in began)
    return found


def test_requests_end_with_an_error_when_the_server_ends_at_once(tmp_path: Path) -> None:
    with server(tmp_path) as started, ThreadPoolExecutor(4) as pool:
        whole = pool.submit(started.post, started.planned(max_tokens=LONG))
        planned, plain = under_way(
            pool, started, started.planned(max_tokens=LONG), started.body(max_tokens=LONG)
        )
        assert started.end() < 30
        events = planned.result()
        assert not any("firing" in event for event in events)
        last = [event for event in events if event.startswith("data: {")][-1]
        assert json.loads(last[6:])["error"]["code"] == 503, events[-3:]
        assert "shutting down" in last
        # A plain stream is vLLM's own: it ends, or its connection is cut.
        assert plain.result()
        try:
            answer = whole.result()
        except httpx.TransportError:
            return
        assert answer.status_code == 503 and "shutting down" in answer.text


def test_requests_under_way_finish_within_the_operator_s_time(tmp_path: Path) -> None:
    with server(tmp_path, "--shutdown-timeout", 40) as started, ThreadPoolExecutor(4) as pool:
        # The server renders what map and engines render: with thinking switched off.
        chat = open_files(started.model).chat
        assert chat is not None and chat.template_options == {"enable_thinking": False}
        rendered = chat.render((Message("user", TALK[0]["content"]),))
        tokens = started.served.http(
            "POST", "/tokenize", json={"model": started.model, "messages": TALK}
        ).json()["tokens"]
        assert tokens == rendered
        answer = started.post(started.planned(max_tokens=2, return_token_ids=True))
        assert answer.json()["prompt_token_ids"] == rendered
        thinking = {"chat_template_kwargs": {"enable_thinking": True}}
        answer = started.post(started.planned(max_tokens=2, return_token_ids=True, **thinking))
        assert answer.json()["prompt_token_ids"] != rendered

        # The loop that every tutorial has.
        client = started.served.client()
        options: dict[str, Any] = {
            "model": started.model,
            "messages": TALK,
            "max_tokens": 8,
            "temperature": 0,
            "stream": True,
            "extra_body": {"personascope": {"plan": PLAN.digest}, "ignore_eos": True},
        }
        text = ""
        chunks = list(client.chat.completions.create(**options))
        for chunk in chunks:
            text += chunk.choices[0].delta.content or ""
        assert text == started.post(started.planned(max_tokens=8)).json()["choices"][0]["message"]["content"]
        assert chunks[-1].personascope["firing"]["tokens"] > 0
        # Who asks for usage knows chunks without choices.
        usage = {"stream_options": {"include_usage": True}}
        last = list(client.chat.completions.create(**options, **usage))[-1]
        assert last.choices == [] and last.personascope["plan"] == PLAN.digest

        (planned,) = under_way(pool, started, started.planned(max_tokens=SHORT))
        ended = pool.submit(started.end)
        time.sleep(0.5)
        late = started.post(started.planned(max_tokens=2))
        assert late.status_code == 503 and "shutting down" in late.json()["error"]["message"]
        events = planned.result()
        assert events[-1] == "data: [DONE]", events[-3:]
        totals = json.loads(events[-2][6:])["personascope"]
        assert totals["firing"]["tokens"] >= SHORT - 1
        assert ended.result() < 60
