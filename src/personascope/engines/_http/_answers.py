"""Answers of both servers: errors and cap statistics as JSON, and the handlers that return them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from personascope.engines._http._errors import StatusError, problem
from personascope.engines._http._watch import watch_of
from personascope.errors import EngineError, PersonascopeError
from personascope.interventions import CapStats

Handler = Callable[[Request], Awaitable[Response]]


class ShuttingDownError(EngineError):
    """Error of a request that was not done when the server shut down."""

    def __init__(self) -> None:
        super().__init__(
            "the server is shutting down", hint="send the request again, to another server or later"
        )


def failure(status: int, text: str, **headers: str) -> JSONResponse:
    """Return an error in the form of the API."""
    return JSONResponse(problem(status, text), status, headers=headers)


def failure_of(error: PersonascopeError | StatusError) -> JSONResponse:
    """Return the answer to a request that ended with an error."""
    if isinstance(error, StatusError):
        return failure(error.status, str(error), **error.headers)
    return failure(503 if isinstance(error, ShuttingDownError) else 400, str(error))


def note_failure(raw: Request, error: Exception) -> None:
    """Note for the log why a request was refused."""
    watch = watch_of(raw.scope)
    if watch is not None:
        watch.error = str(error).splitlines()[0]


def answered(handler: Handler) -> Handler:
    """Return a handler whose errors are answered in the form of the API."""

    async def handle(raw: Request) -> Response:
        try:
            return await handler(raw)
        except (StatusError, PersonascopeError) as error:
            note_failure(raw, error)
            return failure_of(error)

    return handle


def firing(stats: CapStats) -> dict[str, Any]:
    """Return cap statistics as the field of a reply has them."""
    return {
        "share": stats.firing_share,
        "tokens": stats.tokens,
        "capped_tokens": stats.capped_tokens,
        "max_moved": stats.max_moved,
        "layers": {
            str(layer): {"fired": count, "moved": stats.moved[layer]} for layer, count in stats.fired.items()
        },
    }
