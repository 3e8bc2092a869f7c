"""Read the plugin's field in a request, and refuse it wherever it would be ignored."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse

from personascope.engines._http._errors import problem
from personascope.engines._vllm.request._spec import FIELD
from personascope.errors import EngineError

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
OURS = "/v1/personascope"

MAX_DEPTH = 128
"""Maximum nesting depth of objects and lists in a body, beyond which its parsers would fail."""

FREE = frozenset(
    ("input", "tools", "functions", "response_format", "structured_outputs", "guided_json", "json_schema")
)
"""Fields whose keys the caller chooses, because a schema may have a property of any name."""

XARGS = "vllm_xargs"
"""vLLM's own field for further arguments, as strings; the plugin's value may be in it."""

_PLACES = f'send it as {{"{FIELD}": {{"plan": "DIGEST"}}}} at the top of the body, or as a text in {XARGS}'


def read_field(request: Any) -> Mapping[str, Any] | None:
    """Return the plugin's value in a request, from ``vllm_xargs`` or a field of its own; None without one.

    Raises:
        EngineError: If it is no object, or there are two.
    """
    own = (request.model_extra or {}).get(FIELD)
    inside = (request.vllm_xargs or {}).get(FIELD)
    if own is not None and inside is not None:
        raise EngineError(
            f"the request has {FIELD} twice, in {XARGS} and beside it", hint="send it in one place"
        )
    value = own
    if inside is not None:
        try:
            value = json.loads(inside)
        except (TypeError, ValueError, RecursionError) as error:
            raise EngineError(
                f"the {FIELD} value in {XARGS} is not JSON: {error}",
                hint=f'{XARGS} holds texts: {{"{FIELD}": "{{\\"plan\\": \\"DIGEST\\"}}"}}',
            ) from error
    elif FIELD not in (request.model_extra or {}):
        return None
    if not isinstance(value, Mapping):
        raise EngineError(
            f"the {FIELD} value of the request is a {type(value).__name__}, not an object",
            hint='give an object such as {"plan": "DIGEST"}',
        )
    return value


class FieldGuard:
    """ASGI middleware that refuses a request with the field where it would be ignored, or a too deep body."""

    def __init__(self, app: Any) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Check a POST request, and pass it on unchanged if it is not refused."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(f"{OURS}/"):
            # These routes read their bodies themselves, up to a limit.
            return await self.app(scope, receive, send)
        messages: list[Any] = []
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        kind = dict(scope["headers"]).get(b"content-type", b"").lower()
        query = scope.get("query_string", b"").decode("latin-1")
        text = _wrong(path, kind, query, body)
        if text:
            return await JSONResponse(problem(400, text), 400)(scope, receive, send)
        ahead = iter(messages)

        async def replay() -> Any:
            message = next(ahead, None)
            return await receive() if message is None else message

        return await self.app(scope, replay, send)


def _wrong(path: str, kind: bytes, query: str, body: bytes) -> str:
    """Return the reason why a request is refused; "" if it is not."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if _is_field(name):
            return _unheard(path, f"{name} in the query")
    if kind.startswith((b"multipart/", b"application/x-www-form-urlencoded")):
        return _unheard(path, FIELD) if FIELD.encode() in body else ""
    if not _may_matter(body):
        return ""
    try:
        value = json.loads(body)
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return ""  # The route reports it itself.
    if depth(value) > MAX_DEPTH:
        return _TOO_DEEP
    allowed = (FIELD, f"{XARGS}.{FIELD}") if path in (CHAT, TEXT) else ()
    strange = [place for place in field_places(value) if place not in allowed]
    return _unheard(path, strange[0]) if strange else ""


def _unheard(path: str, place: str) -> str:
    instead = _PLACES if path in (CHAT, TEXT) else f"send the request to {CHAT} or {TEXT}"
    return f"{path} would leave {place} unheard\n  -> {instead}"


_TOO_DEEP = f"the body has more than {MAX_DEPTH} objects and lists inside each other\n  -> make it flatter"


def _may_matter(body: bytes) -> bool:
    """Return whether a body must be parsed: it may hold the field in some encoding, or be too deep."""
    return (
        b"persona" in body.lower()
        # Escaped letters, and encodings other than ASCII: JSON may be in UTF-16 or UTF-32.
        or b"\\u00" in body
        or b"\x00" in body
        or body.count(b"[") + body.count(b"{") > MAX_DEPTH
    )


def _is_field(name: str) -> bool:
    """Return whether a key is the plugin's field, in any spelling."""
    return re.sub(r"[^a-z0-9]", "", name.casefold()) == FIELD


def depth(value: Any) -> int:
    """Return the nesting depth of objects and lists in a JSON value, computed without recursion."""
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def field_places(value: Any, place: str = "") -> Iterator[str]:
    """Yield the places, such as "extra_body.personascope", of the plugin's field in a JSON value.

    Fields in `FREE` (tools, schemas, ...) are skipped, and so is the content of the plugin's field.

    Args:
        value: JSON value of bounded `depth`.
        place: Place of the value itself.
    """
    if isinstance(value, dict):
        for name, child in value.items():
            here = f"{place}.{name}" if place else name
            if _is_field(name):
                yield here
            elif name not in FREE:
                yield from field_places(child, here)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            if isinstance(child, dict | list):
                yield from field_places(child, f"{place}[{number}]")
