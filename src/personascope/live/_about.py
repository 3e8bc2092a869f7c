"""What both servers say of what they serve: model, plans, map and monitor, the persona space, alarms."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import StatusError, StoreHost, read_json
from personascope.errors import DynamicsError, UsageError
from personascope.live._positions import Positions
from personascope.stats import json_values

MOST_TOKENS = 1_000_000
"""Maximum number of positions that a monitor is asked about at once."""

Answers = Mapping[str, Mapping[str, Callable[[StoreHost, Request], Awaitable[Any]]]]
"""Path below /v1/personascope -> method -> answer."""


def describing_answers(positions: Positions | None, monitor: Monitor | None) -> Answers:
    """Return the answers of the routes that describe what is served.

    Args:
        positions: Reader of positions; None without a map.
        monitor: Drift monitor; None without one.
    """

    async def about(host: StoreHost, raw: Request) -> dict[str, Any]:
        del raw
        return await _about(host, positions, monitor)

    async def space(host: StoreHost, raw: Request) -> dict[str, Any]:
        del host, raw
        if positions is None or positions.space is None:
            raise StatusError(404, "this server has no persona space\n  -> start it with --map RUN")
        return json_values(positions.space.description())

    async def told(host: StoreHost, raw: Request) -> dict[str, Any]:
        if monitor is None:
            raise StatusError(404, "this server has no monitor\n  -> start it with --monitor FILE")
        return await _told(host, monitor, raw)

    return {"/about": {"GET": about}, "/space": {"GET": space}, "/monitor": {"POST": told}}


async def _about(host: StoreHost, positions: Positions | None, monitor: Monitor | None) -> dict[str, Any]:
    """Describe what is served, for a page that draws it."""
    book = host.book
    return json_values(
        {
            **host.described(),
            "plans": await asyncio.to_thread(book.names),
            "default_plan": None if book.default is None else book.default.digest,
            "map": None if positions is None else positions.description(),
            "inline": {
                "cap": book.maker is not None,
                "steer": book.maker is not None and book.maker.norms is not None,
            },
            "monitor": None if monitor is None else _rule(monitor),
        }
    )


async def _told(host: StoreHost, monitor: Monitor, raw: Request) -> dict[str, Any]:
    """Feed the positions of a conversation to a fresh monitor, and return what it says of each reply.

    The body has ``replies``: for each reply, the positions of its tokens.
    """
    value = read_json(await raw.body())
    replies = _replies(value)
    told = await asyncio.to_thread(_watched, monitor.fresh(), replies)
    # A conversation is sent whole after each reply, so only an alarm of the last one is new.
    if told["replies"] and told["replies"][-1]["alarm"] is not None:
        host.metrics.alarmed()
    return told


def _rule(monitor: Monitor) -> dict[str, Any]:
    rule = monitor.rule
    return {
        "rule": "threshold" if isinstance(rule, Threshold) else "cusum",
        "level": rule.level,
        "threshold": rule.threshold,
        # Only a threshold is a position; a cumulative sum has none.
        "limit": rule.limit if isinstance(rule, Threshold) else None,
    }


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
