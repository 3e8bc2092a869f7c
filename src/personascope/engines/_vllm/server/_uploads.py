"""Read and validate plans and probes that are uploaded over HTTP."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Any

import numpy as np
from fastapi import Request

from personascope.engines._contract import Probe
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.server._errors import StatusError
from personascope.engines._vllm.server._field import MAX_DEPTH, depth
from personascope.engines._vllm.server._state import Serving
from personascope.errors import UsageError
from personascope.interventions import Plan

LIMIT = 64 << 20
"""Maximum size of an upload, in bytes."""


async def put_plan(serving: Serving, raw: Request) -> dict[str, Any]:
    """Store an uploaded plan and return its digest.

    Raises:
        StatusError: If uploads are not allowed, or the body is too large.
        PersonascopeError: If the body is not a valid plan for this model.
    """
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
        # This is a new store, because the one that requests read is not shared between threads.
        return PlanStore(serving.admission.config.store).put(plan)

    return {"digest": await asyncio.to_thread(put)}


async def put_probes(serving: Serving, raw: Request) -> dict[str, Any]:
    """Store an uploaded list of probes and return its digest.

    Raises:
        StatusError: If uploads are not allowed, or the body is too large.
        PersonascopeError: If the body is not a valid list of probes for this model.
    """
    body = await _body(serving, raw)

    def put() -> str:
        probes = ProbeSet.of(_probes(_json(body)))
        serving.admission.check_probes(probes)
        return PlanStore(serving.admission.config.store).put(probes)

    return {"digest": await asyncio.to_thread(put)}


def check_allowed(serving: Serving) -> None:
    """Check that plans and probes may be changed over HTTP.

    Raises:
        StatusError: 403 if the server has no API key and uploads without one are not allowed.
    """
    if not serving.uploads:
        raise StatusError(
            403,
            "this server has no API key, and takes no uploads\n"
            "  -> start it with --api-key, or with allow_upload in the additional config",
        )


def _probes(value: Any) -> list[Probe]:
    hint = "send a list of {name, layer, direction}, direction a list of numbers, each name once"
    if not isinstance(value, list) or not value:
        raise UsageError("the body is no list of probes", hint=hint)
    probes: list[Probe] = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"name", "layer", "direction"}:
            raise UsageError(f"probe {len(probes)} has other fields than name, layer, direction", hint=hint)
        name, layer, direction = item["name"], item["layer"], item["direction"]
        written = isinstance(name, str) and name.encode(errors="ignore").decode() == name
        if not written or not name or name in [probe.name for probe in probes]:
            raise UsageError(f"probe {len(probes)} has the name {str(name)[:80]!r}", hint=hint)
        if not isinstance(layer, int) or isinstance(layer, bool) or not 0 <= layer < 1 << 31:
            raise UsageError(f"probe {name!r} has the layer {str(layer)[:80]!r}", hint=hint)
        numbers = isinstance(direction, list) and all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in direction
        )
        if not numbers or not direction:
            raise UsageError(f"probe {name!r} has a direction that is no list of numbers", hint=hint)
        try:
            with np.errstate(over="ignore"):
                vector = np.array(direction, np.float64).astype(np.float32)
        except OverflowError as error:
            raise UsageError(f"probe {name!r} has a number that no float holds", hint=hint) from error
        if probes and vector.shape != probes[0].direction.shape:
            raise UsageError(f"probe {name!r} is {vector.size} wide, the first one is not", hint=hint)
        probes.append(Probe(name, layer, vector))
    return probes


async def _body(serving: Serving, raw: Request) -> bytes:
    check_allowed(serving)
    parts: list[bytes] = []
    size = 0
    async for part in raw.stream():
        size += len(part)
        if size > LIMIT:
            raise StatusError(413, f"the body is larger than {LIMIT >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}", hint="send JSON") from error
    if depth(value) > MAX_DEPTH:
        raise UsageError(f"the body is nested more than {MAX_DEPTH} deep", hint="send what is documented")
    return value
