"""What stands before the routes of a server: policy, limits, metrics and logs in one place."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from personascope.engines._http._field import CHAT, OURS, TEXT
from personascope.engines._http._limits import Limiter
from personascope.engines._http._metrics import Metrics
from personascope.engines._http._policy import Policy, Rules

OPEN = frozenset(
    ("/", "/health", "/ready", "/metrics", "/openapi.json", "/ping", "/version", "/load", "/docs", "/redoc")
)
"""Paths that need no key, of which no line is logged, and which generate nothing."""

NO_MODEL = frozenset(("/tokenize", "/detokenize", "/v1/chat/completions/render", "/v1/completions/render"))
"""Paths that take a POST and run no model."""

BODY_LIMIT = 16 << 20
"""Maximum size of a request's body, in bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """Who may ask what, and what is told about it.

    Attributes:
        policy: Keys and their rules.
        metrics: Metrics of the server.
        limiter: Use of every key.
        planned: Function that returns whether requests of given rules run under a plan if they name none.
        other_routes: Whether the application has routes that run the model and know no plans.
        body_limit: Maximum size of a request's body, in bytes.
        log_requests: Whether a line is logged for each request.
        log_texts: Whether that line has the texts of request and reply.
    """

    policy: Policy
    metrics: Metrics
    planned: Callable[[Rules], bool]
    limiter: Limiter = field(default_factory=Limiter)
    other_routes: bool = False
    body_limit: int = BODY_LIMIT
    log_requests: bool = True
    log_texts: bool = False

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no key; without other routes, those outside /v1 do not."""
        if not self.other_routes and not path.startswith("/v1"):
            return True
        return path in OPEN or path.startswith(("/page/", "/docs/", "/static/"))

    def route(self, path: str) -> str:
        """Return the short name of a path, of which there are few."""
        if path in (CHAT, TEXT):
            return "chat" if path == CHAT else "text"
        return "personascope" if path.startswith(f"{OURS}/") else "other"


def log_to_stderr() -> None:
    """Write the lines of requests to the standard error, each as it is."""
    log = logging.getLogger("personascope.access")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
