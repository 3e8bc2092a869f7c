"""The page and its recorded conversations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from personascope.live._share import shared_page

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

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
}


def page_routes() -> list[Route]:
    """Return the routes of the page and its files."""
    folder = resources.files("personascope.live").joinpath("assets")
    found = [file for file in folder.iterdir() if file.is_file()]
    found += [file for file in folder.joinpath("recordings").iterdir() if file.is_file()]
    files = {file.name: file.read_bytes() for file in found}
    # A page that is saved for others is the same files in one document, without their data yet.
    files["shared.html"] = shared_page({name: body.decode() for name, body in files.items()}).encode()
    routes = [Route("/", _file("page.html", files["page.html"]))]
    routes += [Route(f"/page/{name}", _file(name, body)) for name, body in sorted(files.items())]
    return routes


def _file(name: str, body: bytes) -> Callable[[Request], Awaitable[Response]]:
    kind = _TYPES[f".{name.rpartition('.')[2]}"]

    async def answer(raw: Request) -> Response:
        del raw
        return Response(body, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    return answer
