"""The application: routes, and the guard before them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from personascope.engines import FieldGuard, Guard, failure, store_routes
from personascope.live._about import describing_answers
from personascope.live._page import page_routes
from personascope.live._routes import completion_routes, service_of
from personascope.live._service import Service


def make_app(service: Service) -> Starlette:
    """Return the application of a server."""
    answers = describing_answers(service.admission.positions, service.monitor)
    app = Starlette(
        routes=[*completion_routes(), *store_routes(service_of, answers), *page_routes()],
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
