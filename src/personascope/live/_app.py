"""The application: routes, the guard before them, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from personascope.engines import OURS, UPLOAD_LIMIT, FieldGuard, failure
from personascope.live._about import describing_routes
from personascope.live._routes import completion_routes
from personascope.live._service import Service

BODY_LIMIT = 16 << 20
"""Maximum size of a request, in bytes."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content policy of the page: its own files alone, and nothing written into the document runs."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Receive = Callable[[], Awaitable[Any]]


def make_app(service: Service) -> Starlette:
    """Return the application of a server."""
    app = Starlette(
        routes=[*completion_routes(), *describing_routes(), *_page_routes()],
        exception_handlers={HTTPException: _http_error},  # pyright: ignore[reportArgumentType]
    )
    app.state.service = service
    # The middleware that is added last sees a request first.
    app.add_middleware(FieldGuard)
    app.add_middleware(Guard, service=service)
    return app


async def _http_error(raw: Request, error: HTTPException) -> Response:
    text = {404: f"there is no {raw.url.path[:100]}", 405: f"{raw.url.path[:100]} takes no {raw.method}"}
    return failure(error.status_code, text.get(error.status_code, error.detail), **(error.headers or {}))


class Guard:
    """ASGI middleware that asks for the key, and refuses bodies that are too large or no JSON."""

    def __init__(self, app: Any, service: Service) -> None:
        """Wrap an application."""
        self.app = app
        self.service = service

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Check a request, and pass it on with its body read if it is not refused."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        path = scope["path"]
        if path.startswith("/v1") and not self.service.allows(headers.get(b"authorization", b"")):
            refused = failure(401, "the key is missing or wrong\n  -> send it as Authorization: Bearer KEY")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return await refused(scope, receive, send)
        if scope["method"] != "POST":
            return await self.app(scope, receive, send)
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            refused = failure(415, "the body is not application/json\n  -> send it as application/json")
            return await refused(scope, receive, send)
        limit = UPLOAD_LIMIT if path.startswith(f"{OURS}/") else BODY_LIMIT
        messages = await _read(receive, limit)
        if messages is None:
            text = f"the body is larger than {limit >> 20} MiB"
            return await failure(413, text, Connection="close")(scope, receive, send)
        ahead = iter(messages)

        async def replay() -> Any:
            message = next(ahead, None)
            return await receive() if message is None else message

        return await self.app(scope, replay, send)


async def _read(receive: Receive, limit: int) -> list[Any] | None:
    """Read the messages of a body; return None if it is larger than the limit."""
    messages: list[Any] = []
    size = 0
    while not messages or messages[-1].get("more_body"):
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
        if size > limit:
            return None
    return messages


def _page_routes() -> list[Route]:
    folder = resources.files("personascope.live").joinpath("assets")
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    routes = [Route("/", _file("page.html", files["page.html"]))]
    return routes + [Route(f"/page/{name}", _file(name, body)) for name, body in sorted(files.items())]


def _file(name: str, body: bytes) -> Callable[[Request], Awaitable[Response]]:
    kind = _TYPES[f".{name.rpartition('.')[2]}"]

    async def answer(raw: Request) -> Response:
        del raw
        return Response(body, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    return answer
