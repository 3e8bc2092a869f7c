"""Routes of completions, models and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from personascope.engines import (
    Handler,
    RequestWatch,
    StatusError,
    answered,
    failure,
    problem,
    read_json,
    watch_of,
)
from personascope.live import _openai as openai
from personascope.live._body import ChatBody, TextBody, read_body
from personascope.live._reply import Piece, Reply
from personascope.live._schema import openapi_document
from personascope.live._service import Failed, Finished, Service, Step, collect

GONE = 499
"""Status of a request whose client has gone, in the log alone."""


def completion_routes() -> list[Route]:
    """Return the routes outside /v1/personascope."""
    return [
        Route("/v1/chat/completions", answered(_completions(ChatBody)), methods=["POST"]),
        Route("/v1/completions", answered(_completions(TextBody)), methods=["POST"]),
        Route("/v1/models", answered(_models), methods=["GET"]),
        Route("/v1/models/{model:path}", answered(_model), methods=["GET"]),
        Route("/health", _health, methods=["GET"]),
        Route("/ready", _ready, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
    ]


def service_of(raw: Request) -> Service:
    """Return the state of the server."""
    return raw.app.state.service


def _completions(kind: type[ChatBody] | type[TextBody]) -> Handler:
    async def complete(raw: Request) -> Response:
        service = service_of(raw)
        body = read_body(kind, read_json(await raw.body()))
        if body.model is not None and body.model != service.admission.model:
            raise _unknown(body.model, service)
        watch = watch_of(raw.scope) or RequestWatch()
        asked = await service.ask(body, watch.rules)
        watch.runs(asked.plan)
        steps = _watched(service.run(asked), watch)
        if not asked.stream:
            async with aclosing(steps):
                return await _whole(raw, steps)
        first = await anext(steps)
        if isinstance(first, Failed):
            await steps.aclose()
            return failure(first.status, str(first.error))
        assert isinstance(first, Reply)
        return StreamingResponse(
            _events(first, steps), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )

    return complete


async def _watched(steps: AsyncGenerator[Step], watch: RequestWatch) -> AsyncGenerator[Step]:
    """Pass the steps of a request on, and note what the log and the metrics tell of them."""
    async with aclosing(steps):
        reply: Reply | None = None
        async for step in steps:
            if isinstance(step, Reply):
                reply = step
            elif isinstance(step, Failed):
                watch.error = step.error.message
            piece = step.piece if isinstance(step, Finished) else step
            if isinstance(piece, Piece):
                watch.text_sent()
                watch.say(piece.reasoning + piece.content)
            if isinstance(step, Finished) and reply is not None:
                watch.replied(reply.usage(step.completion), step.totals)
            yield step


async def _whole(raw: Request, steps: AsyncGenerator[Step]) -> Response:
    """Return the reply to a request that is not streamed; stop when its client goes."""
    first = await anext(steps)
    if isinstance(first, Failed):
        return failure(first.status, str(first.error))
    assert isinstance(first, Reply)
    done = asyncio.ensure_future(collect(steps))
    gone = asyncio.ensure_future(_until_gone(raw))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (done, gone):
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
    if done.cancelled():
        return Response(status_code=GONE)
    pieces, end = done.result()
    if isinstance(end, Failed):
        return failure(end.status, str(end.error))
    body = openai.encode(openai.whole(first, end.completion, pieces, end.totals))
    return Response(body, media_type="application/json")


async def _events(reply: Reply, steps: AsyncGenerator[Step]) -> AsyncGenerator[bytes]:
    async with aclosing(steps):
        if reply.asked.chat:
            yield openai.event(openai.first_chunk(reply))
        async for step in steps:
            if isinstance(step, Failed):
                yield openai.event(problem(step.status, str(step.error)))
            piece = step.piece if isinstance(step, Finished) else step
            if isinstance(piece, Piece) and (piece.content or piece.reasoning or piece.told):
                yield openai.event(openai.text_chunk(reply, piece))
            if isinstance(step, Finished):
                for chunk in openai.end_chunks(reply, step.completion, step.totals):
                    yield openai.event(chunk)
        yield openai.DONE


async def _until_gone(raw: Request) -> None:
    while (await raw.receive())["type"] != "http.disconnect":
        pass


async def _models(raw: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_described(service_of(raw))]})


async def _model(raw: Request) -> Response:
    service = service_of(raw)
    name = raw.path_params["model"]
    if name != service.admission.model:
        raise _unknown(name, service)
    return JSONResponse(_described(service))


def _described(service: Service) -> dict[str, Any]:
    admission = service.admission
    return {
        "id": admission.model,
        "object": "model",
        "created": 0,
        "owned_by": "personascope",
        "root": admission.info.model_id,
        "max_model_len": admission.info.context,
    }


def _unknown(name: str, service: Service) -> StatusError:
    return StatusError(404, f"there is no model {name[:100]!r}\n  -> this is {service.admission.model}")


async def _health(raw: Request) -> Response:
    return Response(status_code=200 if service_of(raw).healthy else 503)


async def _ready(raw: Request) -> Response:
    ready = service_of(raw).ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _metrics(raw: Request) -> Response:
    text = generate_latest(service_of(raw).access.metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _openapi(raw: Request) -> Response:
    del raw
    return JSONResponse(openapi_document())
