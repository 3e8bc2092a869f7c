"""Errors in the form in which the API server answers them."""

from __future__ import annotations

from typing import Any

from personascope.engines._vllm.request._spec import FIELD

_KINDS = {
    400: "BadRequestError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    503: "ServiceUnavailableError",
}


class StatusError(Exception):
    """An answer other than 200.

    Attributes:
        status: HTTP status of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        """Keep the status and what is said."""
        super().__init__(text)
        self.status = status


def problem(status: int, text: str) -> dict[str, Any]:
    """Return an error in the form of vLLM's own."""
    message = "; ".join(part.strip().removeprefix("-> ") for part in text.splitlines())
    kind = _KINDS.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return {"error": {"message": message, "type": kind, "param": FIELD, "code": status}}
