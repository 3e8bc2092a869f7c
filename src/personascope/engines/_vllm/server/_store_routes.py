"""Routes under /v1/personascope that upload, list, describe and delete plans and probes."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.server._errors import StatusError, problem
from personascope.engines._vllm.server._field import OURS
from personascope.engines._vllm.server._state import Serving
from personascope.engines._vllm.server._uploads import check_allowed, put_plan, put_probes
from personascope.errors import EngineError, PersonascopeError
from personascope.interventions import Plan

PAGE, MOST = 100, 1000
"""Default and maximum number of entries in a list."""

Answer = Callable[[Serving, Request], Awaitable[dict[str, Any]]]


def add_routes(app: FastAPI, serving: Callable[[], Serving]) -> None:
    """Add the routes; ``serving`` raises an EngineError if the plugin is not in the engine."""
    routes: dict[str, dict[str, Answer]] = {
        "/plans": {"GET": _list(Plan, "plans"), "POST": put_plan},
        "/plans/{digest}": {"GET": _one(Plan), "DELETE": _delete(Plan)},
        "/probes": {"GET": _list(ProbeSet, "probes"), "POST": put_probes},
        "/probes/{digest}": {"GET": _one(ProbeSet), "DELETE": _delete(ProbeSet)},
        "/stats": {"GET": _stats},
    }
    for path, answers in routes.items():
        for method, answer in answers.items():
            app.add_api_route(OURS + path, _handler(serving, answer), methods=[method], response_model=None)
        others = sorted({"GET", "POST", "PUT", "PATCH", "DELETE"} - set(answers))
        app.add_api_route(OURS + path, _not_allowed(path, list(answers)), methods=others, response_model=None)


def _handler(serving: Callable[[], Serving], answer: Answer) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def handle(raw_request: Request) -> JSONResponse:
        try:
            found = serving()
        except EngineError as error:
            return JSONResponse(problem(501, str(error)), 501)
        try:
            return JSONResponse(await answer(found, raw_request))
        except StatusError as error:
            return JSONResponse(problem(error.status, str(error)), error.status)
        except PersonascopeError as error:
            return JSONResponse(problem(400, str(error)), 400)

    return handle


def _not_allowed(path: str, methods: list[str]) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def handle(raw_request: Request) -> JSONResponse:
        allowed = ", ".join(methods)
        text = f"{OURS}{path} takes no {raw_request.method}\n  -> it takes {allowed}"
        return JSONResponse(problem(405, text), 405, headers={"Allow": allowed})

    return handle


def _list(kind: type[Plan | ProbeSet], name: str) -> Answer:
    async def answer(serving: Serving, raw: Request) -> dict[str, Any]:
        after, limit = _page(raw)

        def read() -> list[dict[str, Any]]:
            # This is a new store, because the one that requests read is not shared between threads.
            store = PlanStore(serving.admission.config.store)
            # One more entry than requested tells whether there is a next page.
            return [
                _told(store, kind, digest) for digest in store.digests(kind, after=after, limit=limit + 1)
            ]

        found = await asyncio.to_thread(read)
        more = len(found) > limit
        return {name: found[:limit], "next": found[limit - 1]["digest"] if more else None}

    return answer


def _page(raw: Request) -> tuple[str, int]:
    """Return the digest after which a page begins, and its maximum length.

    Raises:
        StatusError: 400 if the limit is malformed or out of range.
    """
    text = raw.query_params.get("limit", str(PAGE))
    # int() would also accept other digits, signs and underscores.
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    if not 1 <= limit <= MOST:
        raise StatusError(400, f"limit is {text[:40]!r}\n  -> give a number from 1 to {MOST}")
    return raw.query_params.get("after", ""), limit


def _one(kind: type[Plan | ProbeSet]) -> Answer:
    async def answer(serving: Serving, raw: Request) -> dict[str, Any]:
        digest = raw.path_params["digest"]

        def read() -> dict[str, Any]:
            store = PlanStore(serving.admission.config.store)
            try:
                store.plan(digest) if kind is Plan else store.probes(digest)
            except EngineError as error:
                raise StatusError(404, str(error)) from error
            return _told(store, kind, digest)

        return await asyncio.to_thread(read)

    return answer


def _delete(kind: type[Plan | ProbeSet]) -> Answer:
    async def answer(serving: Serving, raw: Request) -> dict[str, Any]:
        check_allowed(serving)
        digest = raw.path_params["digest"]
        try:
            await asyncio.to_thread(PlanStore(serving.admission.config.store).delete, digest, kind)
        except EngineError as error:
            raise StatusError(404, str(error)) from error
        serving.store.forget(digest)
        return {"digest": digest, "deleted": True}

    return answer


def _told(store: PlanStore, kind: type[Plan | ProbeSet], digest: str) -> dict[str, Any]:
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


async def _stats(serving: Serving, raw: Request) -> dict[str, Any]:
    del raw
    workers = await serving.engine.collective_rpc("personascope_stats")
    return {"under_way": len(serving.requests), "workers": workers}
