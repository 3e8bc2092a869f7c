"""The server's OpenAPI document, made from the models that read its requests."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from personascope.engines import (
    ERROR_SCHEMA,
    REPLY_SCHEMA,
    REQUEST_SCHEMA,
    map_paths,
    operation,
    store_paths,
)
from personascope.live._body import ChatBody, TextBody

_REF = "#/components/schemas/{model}"


@cache
def openapi_document() -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {
        "Error": ERROR_SCHEMA,
        "PersonascopeReply": REPLY_SCHEMA,
        "PersonascopeRequest": REQUEST_SCHEMA,
    }
    for kind in (ChatBody, TextBody):
        schema = kind.model_json_schema(ref_template=_REF)
        schemas |= schema.pop("$defs", {})
        schema["properties"]["personascope"] = {"$ref": "#/components/schemas/PersonascopeRequest"}
        # Other fields are refused by name, unless they ask for nothing.
        schema["additionalProperties"] = True
        schemas[kind.__name__] = schema
    reply = {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {"personascope": {"$ref": "#/components/schemas/PersonascopeReply"}},
    }
    errors = (400, 401, 403, 404, 413, 415, 429, 503)
    model = {"type": "object", "required": ["id", "object"], "properties": {"id": {"type": "string"}}}
    paths: dict[str, Any] = {
        "/health": {"get": operation("Whether the process lives.", None, errors=(), key=False)},
        "/ready": {
            "get": operation(
                "Whether requests are taken.",
                {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                errors=(503,),
                key=False,
            )
        },
        "/metrics": {"get": operation("Metrics of Prometheus.", None, errors=(), key=False)},
        "/v1/models": {"get": operation("The model.", {"type": "object"}, errors=(401,))},
        "/v1/models/{model}": {
            "get": operation(
                "The model, by name.",
                model,
                parameters=[{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
                errors=(400, 401, 404),
            )
        },
    }
    for path, kind, what in (
        ("/v1/chat/completions", "ChatBody", "Reply to a conversation."),
        ("/v1/completions", "TextBody", "Continue a text."),
    ):
        described = operation(what, reply, body={"$ref": f"#/components/schemas/{kind}"}, errors=errors)
        described["responses"]["200"]["content"]["text/event-stream"] = {"schema": {}}
        paths[path] = {"post": described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "personascope", "version": version("personascope")},
        "security": [{"key": []}, {}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "paths": paths | store_paths() | map_paths(),
    }
