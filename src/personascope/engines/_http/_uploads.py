"""Read plans and probes that are uploaded over HTTP."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np

from personascope.engines._contract import Probe
from personascope.engines._http._field import MAX_DEPTH, depth
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.errors import UsageError
from personascope.interventions import Plan


def read_json(body: bytes) -> Any:
    """Return the value of a body.

    Raises:
        UsageError: If it is not JSON, or too deep.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}"[:200], hint="send JSON") from error
    if depth(value) > MAX_DEPTH:
        raise UsageError(f"the body is nested more than {MAX_DEPTH} deep", hint="send what is documented")
    return value


def read_plan(value: Any) -> Plan:
    """Return the plan in an upload.

    Raises:
        UsageError: If the value has another form.
        InterventionError: If it holds no plan, or not the one whose digest it names.
        StoreError: If the tensors are damaged.
    """
    if not isinstance(value, dict) or set(value) != {"plan", "tensors"}:
        raise UsageError(
            "the body is not an object with plan and tensors",
            hint="plan: what is in plan.json; tensors: plan.safetensors in base64",
        )
    try:
        tensors = base64.b64decode(value["tensors"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise UsageError(f"tensors is not base64: {error}", hint="send plan.safetensors in base64") from error
    return Plan.of_files(value["plan"], tensors, whose="the plan that was sent")


def read_probes(value: Any) -> ProbeSet:
    """Return the probes in an upload.

    Raises:
        UsageError: If the value has another form.
    """
    hint = "send a list of {name, layer, direction}, direction a list of numbers, each name once"
    if not isinstance(value, list) or not value:
        raise UsageError("the body is no list of probes", hint=hint)
    probes: dict[str, Probe] = {}
    for number, item in enumerate(value):
        if not isinstance(item, dict) or set(item) != {"name", "layer", "direction"}:
            raise UsageError(f"probe {number} has other fields than name, layer, direction", hint=hint)
        name, layer, direction = item["name"], item["layer"], item["direction"]
        written = isinstance(name, str) and name.encode(errors="ignore").decode() == name
        if not written or not name or name in probes:
            raise UsageError(f"probe {number} has the name {str(name)[:80]!r}", hint=hint)
        if type(layer) is not int or not 0 <= layer < 1 << 31:
            raise UsageError(f"probe {name[:80]!r} has the layer {str(layer)[:80]!r}", hint=hint)
        numbers = isinstance(direction, list) and all(type(x) in (int, float) for x in direction)
        try:
            with np.errstate(over="ignore"):
                vector = np.array(direction if numbers else [], np.float64).astype(np.float32)
        except OverflowError:
            vector = np.array([np.inf], np.float32)
        if not vector.size:
            raise UsageError(f"probe {name[:80]!r} has a direction that is no list of numbers", hint=hint)
        if not np.isfinite(vector).all():
            raise UsageError(f"probe {name[:80]!r} has a direction that is not finite in float32", hint=hint)
        if any(vector.shape != other.direction.shape for other in probes.values()):
            raise UsageError(f"probe {name[:80]!r} is {vector.size} wide, the first one is not", hint=hint)
        probes[name] = Probe(name, layer, vector)
    return ProbeSet.of(list(probes.values()))
