"""Prometheus metrics of both servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MOST_PLANS = 64
"""Maximum number of plans that have a label of their own; the others share `OTHER`."""

OTHER = "other"
"""Label of all plans beyond `MOST_PLANS`."""

PLAIN = "none"
"""Label of requests without a plan."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_POSITIONS = (-2, -1.5, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3)
_SHARES = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_LENGTHS = (0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Metrics of a server.

    A plan's label is its name and the first digits of its digest.

    Args:
        registry: Registry in which they are.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        self.registry = registry
        self._plans: dict[str, str] = {}
        self._lock = threading.Lock()
        kind: dict[str, Any] = {"registry": registry}
        self._requests = Counter(
            "personascope_requests", "Requests that have ended.", ["route", "status", "plan"], **kind
        )
        self._tokens = Counter(
            "personascope_tokens", "Tokens of prompts and replies.", ["kind", "plan"], **kind
        )
        self._seconds = Histogram(
            "personascope_request_seconds",
            "Time to the end of a request.",
            ["route"],
            buckets=_SECONDS,
            **kind,
        )
        self._first = Histogram(
            "personascope_first_token_seconds",
            "Time to the first text of a stream.",
            ["route"],
            buckets=_SECONDS,
            **kind,
        )
        self._position = Histogram(
            "personascope_position",
            "Position of an answer in units of the map: 0 is the mean role, 1 the default.",
            ["plan"],
            buckets=_POSITIONS,
            **kind,
        )
        self._before = Histogram(
            "personascope_position_before",
            "The same before the plan acted at the layer of the positions.",
            ["plan"],
            buckets=_POSITIONS,
            **kind,
        )
        self._share = Histogram(
            "personascope_firing_share",
            "Share of a request's tokens on which a cap fired.",
            ["plan"],
            buckets=_SHARES,
            **kind,
        )
        self._moved = Histogram(
            "personascope_max_moved",
            "Greatest length by which a cap moved a token of a request, in units of the residual stream.",
            ["plan"],
            buckets=_LENGTHS,
            **kind,
        )
        self._alarms = Counter("personascope_alarms", "Alarms of the drift monitor and of gates.", **kind)
        self._running = Gauge(
            "personascope_requests_in_flight",
            "Requests for replies that are under way.",
            multiprocess_mode="livesum",
            **kind,
        )
        self._waiting = Gauge(
            "personascope_requests_waiting",
            "Requests that are accepted and not yet in the batch.",
            multiprocess_mode="livesum",
            **kind,
        )
        self._ready = Gauge(
            "personascope_ready",
            "1 while the server takes requests, 0 while it loads or shuts down.",
            multiprocess_mode="livemin",
            **kind,
        )

    def label(self, digest: str | None, name: str | None) -> str:
        """Return the label of a plan."""
        if digest is None:
            return PLAIN
        with self._lock:
            if digest not in self._plans and len(self._plans) < MOST_PLANS:
                self._plans[digest] = f"{(name or '')[:60]} {digest[:8]}".strip()
            return self._plans.get(digest, OTHER)

    def begun(self) -> None:
        """Count a request for a reply that begins."""
        self._running.inc()

    def ended(
        self,
        route: str,
        status: int,
        seconds: float,
        *,
        first: float | None,
        plan: str,
        prompt_tokens: int,
        reply_tokens: int,
        field: Mapping[str, Any],
    ) -> None:
        """Count a request for a reply that has ended.

        Args:
            route: Short name of the route.
            status: HTTP status.
            seconds: Time since it came.
            first: Time from its coming to its first text; None if that is not known.
            plan: Label of its plan.
            prompt_tokens: Number of tokens of the prompt.
            reply_tokens: Number of tokens of the reply.
            field: The field of the reply; empty without one.
        """
        self._running.dec()
        self._requests.labels(route, str(status), plan).inc()
        self._seconds.labels(route).observe(seconds)
        if first is not None:
            self._first.labels(route).observe(first)
        for kind, count in (("prompt", prompt_tokens), ("reply", reply_tokens)):
            if count:
                self._tokens.labels(kind, plan).inc(count)
        # A request for several samples has what was read of each in a list.
        for sample in field.get("samples") or (field,):
            self._sampled(sample, plan)

    def _sampled(self, sample: Mapping[str, Any], plan: str) -> None:
        """Count what was applied to a reply and read of it."""
        answer, firing, gate = (sample.get(name) or {} for name in ("answer", "firing", "gate"))
        if gate.get("token") is not None:
            self.alarmed()
        for metric, value in (
            (self._position, answer.get("position")),
            (self._before, answer.get("before")),
            (self._share, firing.get("share")),
            (self._moved, firing.get("max_moved")),
        ):
            if value is not None:
                metric.labels(plan).observe(value)

    def refused(self, route: str, status: int) -> None:
        """Count a request that was refused before it began."""
        self._requests.labels(route, str(status), PLAIN).inc()

    def alarmed(self, count: int = 1) -> None:
        """Count alarms."""
        self._alarms.inc(count)

    def watch(self, *, ready: Callable[[], bool], waiting: Callable[[], int] | None = None) -> None:
        """Read two gauges from a server whenever they are asked for.

        Args:
            ready: Function that returns whether requests are taken.
            waiting: Function that returns the number of requests that wait; None if vLLM counts them.
        """
        self._ready.set_function(lambda: float(ready()))
        if waiting is not None:
            self._waiting.set_function(lambda: float(waiting()))

    def set_ready(self, ready: bool) -> None:
        """Set whether requests are taken, where this cannot be read on demand."""
        self._ready.set(float(ready))
