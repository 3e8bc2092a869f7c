"""A real server of a tiny model on a real socket, in a thread of this process, and what clients ask it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn

from eval_case import engine, tiny_run
from personascope.api import MappedModel
from personascope.dynamics.monitor import Monitor
from personascope.engines import PlanBook, PlanStore, fits
from personascope.interventions import Cap, Plan
from personascope.live import Admission, MapPlans, Positions, Service, open_socket
from personascope.live._app import make_app
from personascope.live._server import DrainingServer

KEY = "serve-test"
CHAT = "/v1/chat/completions"
FLOOR = 10.0
"""Projection on the axis that every token of the tiny model is below."""


@dataclass
class Served:
    """A server that answers.

    Attributes:
        url: Address.
        service: State of the server.
        plan: A plan that caps every token, named "high floor".
        mapped: Mapped model whose map it has.
    """

    url: str
    service: Service
    plan: Plan
    mapped: MappedModel
    server: DrainingServer

    def http(self, method: str, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {}) | ({} if key is None else {"Authorization": f"Bearer {key}"})
        return httpx.request(method, f"{self.url}{path}", headers=headers, timeout=60, **options)

    def chat(self, question: str = "What is rain?", field: Any = None, **options: Any) -> dict[str, Any]:
        answer = self.http("POST", CHAT, json=body(question, field, **options))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, question: str = "What is rain?", field: Any = None, **options: Any) -> list[Any]:
        found: list[Any] = []
        with httpx.stream(
            "POST",
            f"{self.url}{CHAT}",
            json=body(question, field, stream=True, **options),
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        ) as answer:
            assert answer.status_code == 200, answer.read()
            lines = (line[6:] for line in answer.iter_lines() if line.startswith("data: "))
            found += [line if line == "[DONE]" else json.loads(line) for line in lines]
        return found

    def refused(self, status: int, **options: Any) -> str:
        """Ask what must be refused, and return the reason."""
        answer = self.http("POST", options.pop("path", CHAT), **options)
        assert answer.status_code == status, (answer.status_code, answer.text)
        error = answer.json()["error"]
        assert error["code"] == status and error["type"] and error["param"] == "personascope"
        return error["message"]

    def idle(self) -> None:
        """Wait until nothing is under way."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            stats = self.http("GET", "/v1/personascope/stats").json()
            if not stats["under_way"] and not stats["running"]:
                return
            time.sleep(0.02)
        raise AssertionError(f"still under way: {stats}")


def body(question: str, field: Any = None, **options: Any) -> dict[str, Any]:
    value = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12}
    return value | options | ({} if field is None else {"personascope": field})


def floor_plan(mapped: MappedModel) -> Plan:
    """Return a cap at the map's middle layer with a floor that every token is below."""
    at = mapped.persona_map.middle_layer
    return Plan((Cap(at, mapped.persona_map.unit_axis(at), floor=FLOOR),), None, "high floor")


@contextmanager
def serving(
    folder: Path,
    *,
    key: str | None = KEY,
    with_map: bool = True,
    default: str | None = None,
    monitor: Monitor | None = None,
    drain: float = 20.0,
    model: Any = None,
    slow: float = 0.0,
    **options: Any,
) -> Iterator[Served]:
    """Serve the tiny Llama from a thread; ``slow`` is the number of seconds that every step waits."""
    model = model or engine()
    mapped = MappedModel.open(tiny_run(), engine=model, progress=False)
    store = PlanStore(folder / "plans")
    maker = MapPlans(mapped.persona_map, mapped.layout.folder, mapped.norms()) if with_map else None
    positions = Positions.of(mapped.persona_map) if with_map else None
    plan = floor_plan(mapped)
    book = PlanBook(store, fits(model.info), maker, default)
    book.add(plan, "floor-folder")
    book.use_default()
    admission = Admission(model.info, model.info.model_id, book, store, positions, 408)
    service = Service(model, admission, monitor=monitor, api_key=key, **options)
    inner = service._worker._batch.step

    def step() -> Any:
        time.sleep(slow)
        return inner()

    service._worker._batch.step = step
    listening = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(make_app(service), log_level="warning", timeout_graceful_shutdown=5)
    server = DrainingServer(config, service, drain)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", service, plan, mapped, server)
    finally:
        server.handle_exit(15, None)
        server.handle_exit(15, None)
        thread.join(30)
        assert not thread.is_alive()


def upload_of(plan: Plan, folder: Path) -> dict[str, Any]:
    """Return the body that uploads a plan."""
    plan.save(folder)
    tensors = base64.b64encode((folder / "plan.safetensors").read_bytes()).decode()
    return {"plan": json.loads((folder / "plan.json").read_text()), "tensors": tensors}


def text_of(chunks: list[Any]) -> str:
    """Return the text of a stream."""
    return "".join(
        choice["delta"].get("content", "")
        for chunk in chunks
        if isinstance(chunk, dict)
        for choice in chunk["choices"]
    )


def tokens_of(chunks: list[Any]) -> list[dict[str, Any]]:
    """Return the token records of a stream."""
    return [
        token
        for chunk in chunks
        if isinstance(chunk, dict)
        for token in chunk.get("personascope", {}).get("tokens", ())
    ]


def unit(width: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return drawn / np.linalg.norm(drawn)
