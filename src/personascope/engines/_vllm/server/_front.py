"""What stands before vLLM's application: guard, policy, limits, metrics and logs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from prometheus_client import REGISTRY

from personascope.engines._http._access import Access, log_to_stderr
from personascope.engines._http._guard import Guard
from personascope.engines._http._map_reader import MapReader
from personascope.engines._http._metrics import Metrics
from personascope.engines._vllm.server._server_options import ServerOptions

BODY_LIMIT = 64 << 20
"""Maximum size of a request's body, in bytes; those of vLLM may hold pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """What stands before vLLM's application.

    Attributes:
        options: Options of the server.
        access: Policy, limits, metrics and logs.
    """

    options: ServerOptions
    access: Access


@cache
def own_metrics() -> Metrics:
    """Return the metrics in the process's own registry, which vLLM shows at /metrics."""
    return Metrics(REGISTRY)


def open_front(environment: Mapping[str, str] | None = None, metrics: Metrics | None = None) -> Front:
    """Return what the environment says stands before the application.

    Args:
        environment: Environment variables; those of the process if not given.
        metrics: Metrics; `own_metrics` if not given.

    Raises:
        UsageError: If the options or the policy are malformed.
    """
    options = ServerOptions.of(os.environ if environment is None else environment)
    policy = options.read_policy()
    access = Access(
        policy,
        metrics or own_metrics(),
        lambda rules: (rules.first or options.default_plan or "none") != "none",
        other_routes=True,
        body_limit=BODY_LIMIT,
        log_texts=options.log_texts,
    )
    return Front(options, access)


def open_reader(options: ServerOptions) -> MapReader | None:
    """Return the reader of the map and the page; None for a server that was not given one.

    Raises:
        PersonascopeError: If the map is damaged.
    """
    if options.reader is None:
        return None
    module, _, name = options.reader.partition(":")
    return getattr(import_module(module), name)(*options.reader_args)


@cache
def process_front() -> Front:
    """Return the one of this process, which guard and routes share."""
    return open_front()


class ServerGuard(Guard):
    """The guard as vLLM's ``--middleware`` loads it: with a malformed policy the server does not start."""

    def __init__(self, app: Any) -> None:
        """Wrap vLLM's application."""
        super().__init__(app, process_front().access)
        log_to_stderr()
