"""Routes under /v1/personascope of this server alone: what is served, the persona space, the monitor."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import StatusError, read_json, store_routes
from personascope.errors import DynamicsError, UsageError
from personascope.live._routes import service_of
from personascope.live._service import Service
from personascope.stats import json_values

MOST_TOKENS = 1_000_000
"""Maximum number of positions that a monitor is asked about at once."""


def describing_routes() -> list[Route]:
    """Return the routes under /v1/personascope: those of both servers, and three of this one alone."""
    more = {"/about": {"GET": _about}, "/space": {"GET": _space}, "/monitor": {"POST": _monitor}}
    return store_routes(service_of, more)


async def _about(service: Service, raw: Request) -> dict[str, Any]:
    """Describe what is served, for a page that draws it."""
    del raw
    admission, monitor = service.admission, service.monitor
    found: dict[str, Any] = {
        "model": admission.model,
        "engine": admission.info.engine,
        "dtype": admission.info.dtype,
        "n_layers": admission.info.n_layers,
        "context": admission.info.context,
        "plans": await asyncio.to_thread(admission.plans.names),
        "default_plan": None if admission.plans.default is None else admission.plans.default.digest,
        "map": None,
        "inline": {"cap": admission.plans.maker is not None, "steer": False},
        "monitor": None if monitor is None else _rule(monitor),
    }
    if admission.positions is not None:
        found["map"] = admission.positions.description()
    if admission.plans.maker is not None:
        found["inline"]["steer"] = admission.plans.maker.norms is not None
    return json_values(found)


async def _space(service: Service, raw: Request) -> dict[str, Any]:
    """Describe the persona space, for a page that draws it."""
    del raw
    positions = service.admission.positions
    if positions is None or positions.space is None:
        raise StatusError(404, "this server has no persona space\n  -> start it with --map RUN")
    return json_values(positions.space.description())


def _rule(monitor: Monitor) -> dict[str, Any]:
    rule = monitor.rule
    return {
        "rule": "threshold" if isinstance(rule, Threshold) else "cusum",
        "level": rule.level,
        "threshold": rule.threshold,
        # Only a threshold is a position; a cumulative sum has none.
        "limit": rule.limit if isinstance(rule, Threshold) else None,
    }


async def _monitor(service: Service, raw: Request) -> dict[str, Any]:
    """Feed the positions of a conversation to a fresh monitor, and return what it says of each reply.

    The body has ``replies``: for each reply, the positions of its tokens.
    """
    if service.monitor is None:
        raise StatusError(404, "this server has no monitor\n  -> start it with --monitor FILE")
    value = read_json(await raw.body())
    replies = _replies(value)
    monitor = service.monitor.fresh()
    told = await asyncio.to_thread(_watched, monitor, replies)
    # A conversation is sent whole after each reply, so only an alarm of the last one is new.
    if told["replies"] and told["replies"][-1]["alarm"] is not None:
        service.access.metrics.alarmed()
    return told


def _replies(value: Any) -> list[list[float]]:
    hint = 'send {"replies": [[0.4, 0.5], [0.1]]}: the positions of the tokens of each reply'
    replies = value.get("replies") if isinstance(value, dict) and set(value) == {"replies"} else None
    if not isinstance(replies, list) or not all(isinstance(reply, list) for reply in replies):
        raise UsageError("the body has no list of replies", hint=hint)
    numbers = [number for reply in replies for number in reply]
    if len(numbers) > MOST_TOKENS:
        raise UsageError(f"the body has {len(numbers):,} positions", hint=f"send at most {MOST_TOKENS:,}")
    for number in numbers:
        if type(number) not in (int, float) or abs(number) > 1e30 or not math.isfinite(number):
            raise UsageError(f"a position is {str(number)[:40]}", hint=hint)
    return [[float(number) for number in reply] for reply in replies]


def _watched(monitor: Monitor, replies: list[list[float]]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    try:
        for reply in replies:
            mean = math.fsum(reply) / len(reply) if reply else math.nan
            values = reply if monitor.rule.level == "token" else [mean]
            monitor.begin_reply()
            states = [monitor.feed(value) for value in values]
            alarm = next((state.token for state in states if state.alarm), None)
            last = states[-1] if states else None
            found.append(
                {
                    "position": mean,
                    "statistic": None if last is None else last.statistic,
                    "trend": None if last is None else last.trend,
                    "alarm": alarm,
                }
            )
    except DynamicsError as error:
        raise UsageError(error.message, hint=error.hint) from error
    return json_values({"replies": found, "alarmed": monitor.alarmed_at is not None, **_rule(monitor)})
