"""The application: routes, the guard before them, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from personascope.engines import FieldGuard, Guard, failure
from personascope.live._about import describing_routes
from personascope.live._routes import completion_routes
from personascope.live._service import Service

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


def make_app(service: Service) -> Starlette:
    """Return the application of a server."""
    app = Starlette(
        routes=[*completion_routes(), *describing_routes(), *_page_routes()],
        exception_handlers={HTTPException: _http_error},  # pyright: ignore[reportArgumentType]
    )
    app.state.service = service
    # The middleware that is added last sees a request first.
    app.add_middleware(FieldGuard)
    app.add_middleware(Guard, access=service.access)
    return app


async def _http_error(raw: Request, error: HTTPException) -> Response:
    text = {404: f"there is no {raw.url.path[:100]}", 405: f"{raw.url.path[:100]} takes no {raw.method}"}
    return failure(error.status_code, text.get(error.status_code, error.detail), **(error.headers or {}))


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
