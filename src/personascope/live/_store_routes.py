"""Routes under /v1/personascope: plans, probes, what is served, and the monitor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import PlanStore, ProbeSet, StatusError
from personascope.errors import DynamicsError, EngineError, UsageError
from personascope.interventions import Plan
from personascope.live._routes import answered, failure, service_of
from personascope.live._service import Service
from personascope.live._uploads import read_json, read_plan, read_probes
from personascope.stats import json_values

OURS = "/v1/personascope"

PAGE, MOST = 100, 1000
"""Default and maximum number of entries in a list."""

MOST_TOKENS = 1_000_000
"""Maximum number of positions that a monitor is asked about at once."""

Answer = Callable[[Service, Request], Awaitable[Any]]
Kind = type[Plan | ProbeSet]


def store_routes() -> list[Route]:
    """Return the routes under /v1/personascope."""
    routes: dict[str, dict[str, Answer]] = {
        "/about": {"GET": _about},
        "/monitor": {"POST": _monitor},
        "/stats": {"GET": _stats},
        "/plans": {"GET": _list(Plan, "plans"), "POST": _put_plan},
        "/plans/{digest}": {"GET": _one(Plan), "DELETE": _delete(Plan)},
        "/probes": {"GET": _list(ProbeSet, "probes"), "POST": _put_probes},
        "/probes/{digest}": {"GET": _one(ProbeSet), "DELETE": _delete(ProbeSet)},
    }
    return [
        Route(OURS + path, _handler(path, answers), methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
        for path, answers in routes.items()
    ]


def _handler(path: str, answers: dict[str, Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(raw: Request) -> Response:
        # Routes add HEAD where there is GET.
        answer = answers.get("GET" if raw.method == "HEAD" else raw.method)
        if answer is None:
            allowed = ", ".join(answers)
            text = f"{OURS}{path} takes no {raw.method}\n  -> it takes {allowed}"
            return failure(405, text, Allow=allowed)
        return JSONResponse(json_values(await answer(service_of(raw), raw)))

    return answered(handle)


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
    return found


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
    return await asyncio.to_thread(_watched, monitor, replies)


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
    return {"replies": found, "alarmed": monitor.alarmed_at is not None, **_rule(monitor)}


async def _stats(service: Service, raw: Request) -> dict[str, Any]:
    del raw
    return {"under_way": service.under_way, "running": service.running, "draining": service.draining}


async def _put_plan(service: Service, raw: Request) -> dict[str, Any]:
    _check_allowed(service)
    body = await raw.body()

    def put() -> str:
        return service.admission.plans.add(read_plan(read_json(body)))

    return {"digest": await asyncio.to_thread(put)}


async def _put_probes(service: Service, raw: Request) -> dict[str, Any]:
    _check_allowed(service)
    body = await raw.body()

    def put() -> str:
        probes = read_probes(read_json(body))
        service.admission.check_probes(probes)
        return PlanStore(service.admission.store.folder).put(probes)

    return {"digest": await asyncio.to_thread(put)}


def _check_allowed(service: Service) -> None:
    if not service.uploads:
        raise StatusError(
            403,
            "this server has no API key, and takes no uploads\n"
            "  -> start it with --api-key, or with --allow-upload",
        )


def _list(kind: Kind, name: str) -> Answer:
    async def answer(service: Service, raw: Request) -> dict[str, Any]:
        after, limit = _page(raw)

        def read() -> list[dict[str, Any]]:
            store = PlanStore(service.admission.store.folder)
            # One more entry than requested tells whether there is a next page.
            found = store.digests(kind, after=after, limit=limit + 1)
            return [_told(store, kind, digest) for digest in found]

        found = await asyncio.to_thread(read)
        more = len(found) > limit
        return {name: found[:limit], "next": found[limit - 1]["digest"] if more else None}

    return answer


def _page(raw: Request) -> tuple[str, int]:
    text = raw.query_params.get("limit", str(PAGE))
    # int() would also accept other digits, signs and underscores.
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    if not 1 <= limit <= MOST:
        raise StatusError(400, f"limit is {text[:40]!r}\n  -> give a number from 1 to {MOST}")
    return raw.query_params.get("after", ""), limit


def _one(kind: Kind) -> Answer:
    async def answer(service: Service, raw: Request) -> dict[str, Any]:
        digest = raw.path_params["digest"]

        def read() -> dict[str, Any]:
            store = PlanStore(service.admission.store.folder)
            try:
                store.plan(digest) if kind is Plan else store.probes(digest)
            except EngineError as error:
                raise StatusError(404, str(error)) from error
            return _told(store, kind, digest)

        return await asyncio.to_thread(read)

    return answer


def _delete(kind: Kind) -> Answer:
    async def answer(service: Service, raw: Request) -> dict[str, Any]:
        _check_allowed(service)
        digest = raw.path_params["digest"]
        try:
            await asyncio.to_thread(PlanStore(service.admission.store.folder).delete, digest, kind)
        except EngineError as error:
            raise StatusError(404, str(error)) from error
        service.admission.plans.forget(digest)
        return {"digest": digest, "deleted": True}

    return answer


def _told(store: PlanStore, kind: Kind, digest: str) -> dict[str, Any]:
    """Return the description of an entry; for a damaged one, its problem."""
    try:
        if kind is Plan:
            plan = store.plan(digest)
            return {
                "digest": digest,
                "name": plan.name,
                "layers": list(plan.layers),
                "explanation": plan.explain(),
            }
        probes = store.probes(digest)
        return {"digest": digest, "names": list(probes.names), "layers": list(probes.layers)}
    except EngineError as error:
        return {"digest": digest, "problem": error.message}
