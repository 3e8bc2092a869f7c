"""Errors in the form of the API server's answers."""

from __future__ import annotations

from typing import Any

from personascope.engines._vllm.request._spec import FIELD

_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "RequestTooLargeError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
}


class StatusError(Exception):
    """Error that is answered with an HTTP status.

    Attributes:
        status: HTTP status of the answer.
        headers: Headers of the answer.
    """

    def __init__(self, status: int, text: str, **headers: str) -> None:
        """Store the status, the message and the headers; ``_`` in a header's name stands for ``-``."""
        super().__init__(text)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def problem(status: int, text: str) -> dict[str, Any]:
    """Return the JSON body of an error, in the form of vLLM's own."""
    message = "; ".join(part.strip().removeprefix("-> ") for part in text.splitlines())
    kind = _KINDS.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return {"error": {"message": message, "type": kind, "param": FIELD, "code": status}}
