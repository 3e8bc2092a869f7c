"""Routes under /v1/personascope that both servers have: plans, probes, and what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from personascope.engines._http._answers import Handler, answered
from personascope.engines._http._book import PlanBook
from personascope.engines._http._errors import StatusError
from personascope.engines._http._field import OURS
from personascope.engines._http._metrics import Metrics
from personascope.engines._http._uploads import read_json, read_plan, read_probes
from personascope.engines._http._watch import watch_of
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.errors import EngineError
from personascope.interventions import Plan

PAGE, MOST = 100, 1000
"""Default and maximum number of entries in a list."""

UPLOAD_LIMIT = 64 << 20
"""Maximum size of an upload, in bytes."""


class StoreHost(Protocol):
    """What the routes ask of a server."""

    @property
    def book(self) -> PlanBook:
        """Plans of the server, and their store."""
        ...

    @property
    def uploads(self) -> bool:
        """Whether plans and probes may be uploaded and deleted."""
        ...

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that probes fit the model.

        Raises:
            EngineError: If they do not.
        """
        ...

    def forget(self, digest: str) -> None:
        """Drop an entry that was deleted."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Metrics of the server."""
        ...

    def described(self) -> dict[str, Any]:
        """Return model and engine as JSON values, and in ``reads`` what can be read of replies."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Return what is under way, as JSON values."""
        ...


Answer = Callable[[Any, Request], Awaitable[Any]]
Kind = type[Plan | ProbeSet]


def store_routes(
    host_of: Callable[[Request], StoreHost], more: Mapping[str, Mapping[str, Answer]] | None = None
) -> list[Route]:
    """Return the routes of a server.

    Args:
        host_of: Function that returns the server of a request.
        more: Path below /v1/personascope -> method -> answer, for routes that one server alone has.
    """
    routes: dict[str, Mapping[str, Answer]] = {
        "/plans": {"GET": _list(Plan, "plans"), "POST": _put_plan},
        "/plans/{digest}": {"GET": _one(Plan), "DELETE": _delete(Plan)},
        "/probes": {"GET": _list(ProbeSet, "probes"), "POST": _put_probes},
        "/probes/{digest}": {"GET": _one(ProbeSet), "DELETE": _delete(ProbeSet)},
        "/stats": {"GET": _stats},
        **(more or {}),
    }
    return [
        Route(
            OURS + path,
            answered(_handler(host_of, path, answers)),
            methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        )
        for path, answers in routes.items()
    ]


def _handler(host_of: Callable[[Request], StoreHost], path: str, answers: Mapping[str, Answer]) -> Handler:
    async def handle(raw: Request) -> Response:
        # Routes add HEAD where there is GET.
        answer = answers.get("GET" if raw.method == "HEAD" else raw.method)
        if answer is None:
            allowed = ", ".join(answers)
            text = f"{OURS}{path} takes no {raw.method}\n  -> it takes {allowed}"
            raise StatusError(405, text, Allow=allowed)
        return JSONResponse(await answer(host_of(raw), raw))

    return handle


async def _stats(host: StoreHost, raw: Request) -> dict[str, Any]:
    del raw
    return await host.stats()


async def _put_plan(host: StoreHost, raw: Request) -> dict[str, Any]:
    body = await _upload(host, raw)
    return {"digest": await asyncio.to_thread(lambda: host.book.add(read_plan(read_json(body))))}


async def _put_probes(host: StoreHost, raw: Request) -> dict[str, Any]:
    body = await _upload(host, raw)

    def put() -> str:
        probes = read_probes(read_json(body))
        host.check_probes(probes)
        host.book.check_room(probes)
        # This is a new store, because the one that requests read is not shared between threads.
        return PlanStore(host.book.store.folder).put(probes)

    return {"digest": await asyncio.to_thread(put)}


async def _upload(host: StoreHost, raw: Request) -> bytes:
    """Return the body of an upload.

    Raises:
        StatusError: 403 if uploads are not allowed, 413 if the body is too large.
    """
    _check_allowed(host, raw)
    parts: list[bytes] = []
    size = 0
    async for part in raw.stream():
        size += len(part)
        if size > UPLOAD_LIMIT:
            raise StatusError(413, f"the body is larger than {UPLOAD_LIMIT >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _check_allowed(host: StoreHost, raw: Request) -> None:
    watch = watch_of(raw.scope)
    if watch is not None and watch.rules.read_only:
        raise StatusError(403, f"the key {watch.rules.name!r} may not change plans or probes")
    if not host.uploads:
        raise StatusError(
            403,
            "this server has no API key, and takes no uploads\n"
            "  -> start it with --api-key, or with --allow-upload",
        )


def _list(kind: Kind, name: str) -> Answer:
    async def answer(host: StoreHost, raw: Request) -> dict[str, Any]:
        after, limit = _page(raw)

        def read() -> list[dict[str, Any]]:
            store = PlanStore(host.book.store.folder)
            # One more entry than requested tells whether there is a next page.
            found = store.digests(kind, after=after, limit=limit + 1)
            return [_told(store, kind, digest) for digest in found]

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


def _one(kind: Kind) -> Answer:
    async def answer(host: StoreHost, raw: Request) -> dict[str, Any]:
        digest = raw.path_params["digest"]

        def read() -> dict[str, Any]:
            store = PlanStore(host.book.store.folder)
            try:
                store.plan(digest) if kind is Plan else store.probes(digest)
            except EngineError as error:
                raise StatusError(404, str(error)) from error
            return _told(store, kind, digest)

        return await asyncio.to_thread(read)

    return answer


def _delete(kind: Kind) -> Answer:
    async def answer(host: StoreHost, raw: Request) -> dict[str, Any]:
        _check_allowed(host, raw)
        digest = raw.path_params["digest"]
        if host.book.is_pinned(digest):
            raise StatusError(403, f"the plan {digest[:12]} is one that this server runs requests under")
        try:
            await asyncio.to_thread(PlanStore(host.book.store.folder).delete, digest, kind)
        except EngineError as error:
            raise StatusError(404, str(error)) from error
        host.book.forget(digest)
        host.forget(digest)
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
