"""Routes under /v1/personascope: plans and probes come in, and what is there is told."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from personascope.engines._contract import Probe
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.server._state import Serving, problem
from personascope.errors import EngineError, PersonascopeError, UsageError
from personascope.interventions import Plan

LIMIT = 64 << 20
"""Bytes of an upload, at most."""

ROOT = "/v1/personascope"


class _StatusError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def add_routes(app: FastAPI, serving: Callable[[], Serving]) -> None:
    """Add the routes; ``serving`` raises an EngineError where the plugin is not in the engine."""

    def route(path: str, method: str, answer: Callable[[Serving, Request], Any]) -> None:
        async def handle(raw_request: Request) -> JSONResponse:
            try:
                found = serving()
            except EngineError as error:
                return JSONResponse(problem(501, str(error)), 501)
            try:
                return JSONResponse(await answer(found, raw_request))
            except _StatusError as error:
                return JSONResponse(problem(error.status, str(error)), error.status)
            except PersonascopeError as error:
                return JSONResponse(problem(400, str(error)), 400)

        app.add_api_route(ROOT + path, handle, methods=[method], response_model=None)

    route("/plans", "POST", _put_plan)
    route("/plans", "GET", _plans)
    route("/plans/{digest}", "GET", _plan)
    route("/probes", "POST", _put_probes)
    route("/stats", "GET", _stats)


async def _put_plan(serving: Serving, raw: Request) -> dict[str, Any]:
    body = await _body(serving, raw)

    def put() -> str:
        value = _json(body)
        if not isinstance(value, dict) or set(value) != {"plan", "tensors"}:
            raise UsageError(
                "the body is not an object with plan and tensors",
                hint="plan: what is in plan.json; tensors: plan.safetensors in base64",
            )
        try:
            tensors = base64.b64decode(value["tensors"], validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise UsageError(
                f"tensors is not base64: {error}", hint="send plan.safetensors in base64"
            ) from error
        plan = Plan.of_files(value["plan"], tensors, whose="the plan that was sent")
        serving.admission.check_plan(plan)
        # A store of its own: the one that requests read is not shared between threads.
        return PlanStore(serving.admission.config.store).put(plan)

    return {"digest": await asyncio.to_thread(put)}


async def _put_probes(serving: Serving, raw: Request) -> dict[str, Any]:
    body = await _body(serving, raw)

    def put() -> str:
        probes = ProbeSet.of(_probes(_json(body)))
        serving.admission.check_probes(probes)
        return PlanStore(serving.admission.config.store).put(probes)

    return {"digest": await asyncio.to_thread(put)}


def _probes(value: Any) -> list[Probe]:
    hint = "send a list of {name, layer, direction}, direction a list of numbers, each name once"
    if not isinstance(value, list) or not value:
        raise UsageError("the body is no list of probes", hint=hint)
    probes: list[Probe] = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"name", "layer", "direction"}:
            raise UsageError(f"probe {len(probes)} has other fields than name, layer, direction", hint=hint)
        name, layer, direction = item["name"], item["layer"], item["direction"]
        if not isinstance(name, str) or not name or name in [probe.name for probe in probes]:
            raise UsageError(f"probe {len(probes)} has the name {name!r}", hint=hint)
        if not isinstance(layer, int) or isinstance(layer, bool) or layer < 0:
            raise UsageError(f"probe {name!r} has the layer {layer!r}", hint=hint)
        numbers = isinstance(direction, list) and all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in direction
        )
        if not numbers or not direction:
            raise UsageError(f"probe {name!r} has a direction that is no list of numbers", hint=hint)
        with np.errstate(over="ignore"):
            vector = np.array(direction, np.float64).astype(np.float32)
        if probes and vector.shape != probes[0].direction.shape:
            raise UsageError(f"probe {name!r} is {vector.size} wide, the first one is not", hint=hint)
        probes.append(Probe(name, layer, vector))
    return probes


async def _plans(serving: Serving, raw: Request) -> dict[str, Any]:
    del raw

    def read() -> list[dict[str, Any]]:
        store = PlanStore(serving.admission.config.store)
        folder = Path(store.folder)
        names = sorted(place.parent.name for place in folder.glob("*/plan.json"))
        return [_entry(store, name) for name in names]

    return {"plans": await asyncio.to_thread(read)}


def _entry(store: PlanStore, digest: str) -> dict[str, Any]:
    try:
        plan = store.plan(digest)
    except EngineError as error:
        return {"digest": digest, "problem": error.message}
    return {"digest": digest, "name": plan.name, "layers": list(plan.layers), "explanation": plan.explain()}


async def _plan(serving: Serving, raw: Request) -> dict[str, Any]:
    digest = raw.path_params["digest"]
    try:
        serving.store.plan(digest)
    except EngineError as error:
        raise _StatusError(404, str(error)) from error
    return _entry(serving.store, digest)


async def _stats(serving: Serving, raw: Request) -> dict[str, Any]:
    del raw
    workers = await serving.engine.collective_rpc("personascope_stats")
    return {"under_way": len(serving.requests), "workers": workers}


async def _body(serving: Serving, raw: Request) -> bytes:
    if not serving.uploads:
        raise _StatusError(
            403,
            "this server has no API key, and takes no uploads\n"
            "  -> start it with --api-key, or with allow_upload in the additional config",
        )
    parts: list[bytes] = []
    size = 0
    async for part in raw.stream():
        size += len(part)
        if size > LIMIT:
            raise _StatusError(413, f"the body is larger than {LIMIT >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}", hint="send JSON") from error
