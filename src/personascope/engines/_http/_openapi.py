"""What both servers say at /openapi.json: the field of requests and replies, and the store's routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from personascope.engines._http._field import OURS
from personascope.engines._vllm.request._spec import FIELD

Schema = dict[str, Any]

REASONS = {
    400: "It cannot be honoured.",
    401: "The key is missing or wrong.",
    403: "The policy does not allow it.",
    404: "There is no such thing.",
    405: "The route takes no such method.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The key is beyond a limit; Retry-After says when to ask again.",
    501: "The server was started without a part that this needs.",
    503: "The server is shutting down.",
}
"""Statuses of errors."""

_NUMBER = {"type": ["number", "null"]}
_DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_OR_NULL: Schema = {"type": ["string", "null"]}

_PERCENTILE: Schema = {"type": "number", "minimum": 0, "maximum": 100}
_CAP: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["percentile", "layers"],
    "properties": {
        "percentile": _PERCENTILE,
        "layers": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    },
}
_STEER: Schema = {
    "anyOf": [
        {"type": "number"},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["strength"],
            "properties": {"strength": {"type": "number"}, "layer": {"type": "integer", "minimum": 0}},
        },
    ]
}
_INLINE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {"cap": _CAP, "steer": _STEER},
}

_GATE: Schema = {
    "description": "A plan that an alarm switches on within the reply.",
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["plan", "probe", "alarm"],
            "properties": {
                "plan": {"type": "string", "description": "Digest, its beginning, or name."},
                "probe": {"type": "string", "description": "Name of one of the request's probes."},
                "alarm": {"type": "object", "description": "Alarm of a monitor of tokens."},
                "tokens": {"enum": ["answer", "thinking", "tool_calls", "response"]},
            },
        },
    ],
}

REQUEST_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "description": "The plan under which the request runs, and what is read of it.",
    "properties": {
        "plan": {
            "description": 'Digest, its beginning, name, or inline plan; null or "none" is no plan.',
            "anyOf": [{"type": "string"}, {"type": "null"}, _INLINE],
        },
        "override": {
            "description": "Another floor or strength of the plan, for this request.",
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {
                "floor": {"type": "number"},
                "percentile": _PERCENTILE,
                "strength": {"type": "number"},
            },
        },
        "probes": {"description": "Digest of a list of probes.", "anyOf": [_DIGEST, {"type": "null"}]},
        "pool": {"type": "boolean", "description": "Whether the mean of the residual stream is returned."},
        "gate": _GATE,
        "positions": {"type": "boolean", "description": "Whether every token has its position."},
        "space": {
            "type": "boolean",
            "description": "Whether the reply has its place in the persona space, and its nearest roles and "
            "traits.",
        },
        "layers": {
            "type": "boolean",
            "description": "Whether the reply, and every token, has its position at every layer.",
        },
    },
}
"""Field of a request, on both servers."""

_PLACE: Schema = {
    "type": "object",
    "properties": {
        "position": _NUMBER,
        "before": _NUMBER,
        "percentile": _NUMBER,
        "tokens": {"type": "integer"},
    },
}

_FIRING: Schema = {
    "type": "object",
    "properties": {
        "share": {"type": "number"},
        "tokens": {"type": "integer"},
        "capped_tokens": {"type": "integer"},
        "max_moved": {"type": "number"},
        "layers": {"type": "object"},
    },
}

REPLY_SCHEMA: Schema = {
    "type": "object",
    "description": "What was applied and read. Positions are in units of the map: 0 is the mean role.",
    "properties": {
        "plan": _OR_NULL,
        "plan_name": _OR_NULL,
        "probes": _OR_NULL,
        "seed": {"type": "integer"},
        "layer": {"type": "integer"},
        "answer": _PLACE,
        "thinking": _PLACE,
        "tokens": {"type": "array", "items": {"type": "object"}},
        "firing": _FIRING,
        "gate": {
            "type": "object",
            "required": ["plan", "token", "firing"],
            "properties": {
                "plan": _DIGEST,
                "token": {"type": ["integer", "null"]},
                "firing": {"anyOf": [{"type": "null"}, _FIRING]},
            },
        },
        "nearest": {"type": "object"},
        "first": {"type": "integer"},
        "projections": {"type": "object"},
        "projected_tokens": {"type": "integer"},
        "pooled": {"type": ["object", "null"]},
        "samples": {"type": "array", "items": {"type": "object"}},
    },
}
"""Field of a reply."""

ERROR_SCHEMA: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": _OR_NULL,
                "code": {"type": "integer"},
            },
        }
    },
}
"""Body of an error."""

_ENTRY: Schema = {
    "type": "object",
    "required": ["digest"],
    "properties": {
        "digest": _DIGEST,
        "name": {"type": "string"},
        "names": {"type": "array", "items": {"type": "string"}},
        "layers": {"type": "array", "items": {"type": "integer"}},
        "explanation": {"type": "string"},
        "problem": {"type": "string"},
    },
}
_STORED: Schema = {"type": "object", "required": ["digest"], "properties": {"digest": _DIGEST}}
_PLAN_UPLOAD: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["plan", "tensors"],
    "properties": {"plan": {"type": "object"}, "tensors": {"type": "string", "format": "byte"}},
}
_PROBES_UPLOAD: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "layer", "direction"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "layer": {"type": "integer", "minimum": 0},
            "direction": {"type": "array", "items": {"type": "number"}, "minItems": 1},
        },
    },
}


_SENT = (400, 401, 404, 413, 415, 501)


def operation(
    summary: str,
    reply: Schema | None,
    *,
    body: Schema | None = None,
    parameters: Iterable[Schema] = (),
    errors: Iterable[int] = (400, 401, 403, 405, 415),
    key: bool = True,
) -> Schema:
    """Return the description of an operation.

    Args:
        summary: What it does.
        reply: Schema of its reply; None for one without JSON.
        body: Schema of the request's body.
        parameters: Parameters in path and query.
        errors: Statuses of its errors.
        key: Whether it needs a key.
    """
    found: Schema = {"summary": summary, "responses": {"200": {"description": "Done."}}}
    if reply is not None:
        found["responses"]["200"]["content"] = {"application/json": {"schema": reply}}
    for status in errors:
        found["responses"][str(status)] = {
            "description": REASONS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        found["parameters"] = list(parameters)
    if not key:
        found["security"] = []
    return found


def store_paths() -> dict[str, Schema]:
    """Return the paths under /v1/personascope that both servers have."""
    found: dict[str, Schema] = {
        f"{OURS}/stats": {"get": operation("What is under way.", {"type": "object"}, errors=(401, 403, 501))}
    }
    digest = {"name": "digest", "in": "path", "required": True, "schema": _DIGEST}
    paging = [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
        {"name": "after", "in": "query", "schema": {"type": "string"}},
    ]
    for name, what, upload in (
        ("plans", "a plan", _PLAN_UPLOAD),
        ("probes", "a list of probes", _PROBES_UPLOAD),
    ):
        page = {
            "type": "object",
            "required": [name, "next"],
            "properties": {name: {"type": "array", "items": _ENTRY}, "next": _OR_NULL},
        }
        found[f"{OURS}/{name}"] = {
            "get": operation(f"List {name}.", page, parameters=paging, errors=(400, 401, 403, 501)),
            "post": operation(f"Store {what}.", _STORED, body=upload, errors=(400, 401, 403, 413, 415, 501)),
        }
        errors = (400, 401, 403, 404, 501)
        found[f"{OURS}/{name}/{{digest}}"] = {
            "get": operation(f"Describe {what}.", _ENTRY, parameters=[digest], errors=errors),
            "delete": operation(f"Delete {what}.", {"type": "object"}, parameters=[digest], errors=errors),
        }
    return found


def map_paths() -> dict[str, Schema]:
    """Return the paths under /v1/personascope that describe what is served: model, map, space and monitor."""
    replies = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    asked: Schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["replies"],
        "properties": {"replies": replies},
    }
    reply: Schema = {"type": "object"}
    told = operation("What the drift monitor says of a conversation.", reply, body=asked, errors=_SENT)
    return {
        f"{OURS}/about": {"get": operation("Model, map, plans and monitor.", reply, errors=(401, 501))},
        f"{OURS}/space": {
            "get": operation("The persona space, with its roles.", reply, errors=(401, 404, 501))
        },
        f"{OURS}/monitor": {"post": told},
    }


def with_field(document: Mapping[str, Any], schemas: Iterable[str]) -> dict[str, Any]:
    """Return vLLM's own OpenAPI document with the field in its requests, and the store's routes.

    Args:
        document: Document of the application.
        schemas: Names of the schemas of requests that take the field.
    """
    found = deepcopy(dict(document))
    known = found.setdefault("components", {}).setdefault("schemas", {})
    known |= {"PersonascopeRequest": REQUEST_SCHEMA, "PersonascopeReply": REPLY_SCHEMA, "Error": ERROR_SCHEMA}
    for name in schemas:
        if name in known:
            known[name].setdefault("properties", {})[FIELD] = {
                "$ref": "#/components/schemas/PersonascopeRequest"
            }
    found["paths"] = {**found.get("paths", {}), **store_paths(), **map_paths()}
    return found
