"""Replies of vLLM as the log and the metrics see them, with a plan or plain."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse

from personascope.engines._http._watch import RequestWatch
from personascope.engines._vllm.request._spec import FIELD
from personascope.engines._vllm.server._inflight import InFlightRequest
from personascope.engines._vllm.server._state import event, hide_tokens, nothing_more, prompt_tokens

NO_PLAN: dict[str, Any] = {"plan": None, "plan_name": None, "probes": None}
"""Field of the reply to a request that asks for no plan."""


def say(value: Any, watch: RequestWatch) -> None:
    """Note the text of a reply, or of a chunk of one, if texts are logged."""
    for choice in value.get("choices") or () if watch.texts is not None else ():
        part = choice.get("message") or choice.get("delta") or choice
        watch.say(str(part.get("reasoning") or "") + str(part.get("content") or part.get("text") or ""))


async def watched(
    chunks: AsyncIterator[Any], watch: RequestWatch, in_flight: InFlightRequest
) -> AsyncIterator[Any]:
    """Pass on the events of a request with the field, and note what is told of it."""
    try:
        async for chunk in chunks:
            watch.text_sent()
            if watch.texts is not None and (value := _value(chunk)) is not None:
                say(value, watch)
            yield chunk
    finally:
        watch.replied(in_flight.usage, in_flight.told)
        watch.error = watch.error or in_flight.problem


async def run_plain(
    inner: Callable[..., Awaitable[Any]], request: Any, raw: Request, watch: RequestWatch, *, told: bool
) -> Any:
    """Return vLLM's own reply to a request without plan, probes and mean.

    A stream is passed on as it is, unless its tokens must be counted for a limit, its texts are logged, or
    the reply says that it has no plan.

    Args:
        inner: vLLM's route.
        request: Request.
        raw: HTTP request.
        watch: Watch of the request.
        told: Whether the reply says that it has no plan, because the request asked for none.
    """
    counted = told or watch.texts is not None or watch.rules.tokens_per_minute is not None
    shown = bool(request.return_token_ids)
    if request.stream and counted:
        request.return_token_ids = True
    response = await inner(request, raw)
    if isinstance(response, StreamingResponse):
        chunks: Any = response.body_iterator
        usage = bool(getattr(request.stream_options, "include_usage", False))
        response.body_iterator = (
            _counted(chunks, watch, shown=shown, told=told, usage=usage) if counted else _begun(chunks, watch)
        )
        return response
    if not isinstance(response, JSONResponse) or response.status_code != 200:
        return response
    value = json.loads(bytes(response.body))
    watch.replied(value.get("usage"), None)
    say(value, watch)
    if not told:
        return response
    headers = {name: text for name, text in response.headers.items() if name.lower() != "content-length"}
    return JSONResponse(value | {FIELD: NO_PLAN}, headers=headers, background=response.background)


async def _begun(chunks: AsyncIterator[Any], watch: RequestWatch) -> AsyncIterator[Any]:
    async for chunk in chunks:
        watch.text_sent()
        yield chunk


async def _counted(
    chunks: AsyncIterator[Any], watch: RequestWatch, *, shown: bool, told: bool, usage: bool
) -> AsyncIterator[Any]:
    head: dict[str, Any] = {}
    prompt = reply = 0
    failed = False
    try:
        async for chunk in chunks:
            watch.text_sent()
            value = _value(chunk)
            text = chunk
            if value is not None and value.get("choices"):
                head = {key: value[key] for key in ("id", "object", "created", "model")}
                prompt = prompt or prompt_tokens(value)
                reply += sum(len(choice.get("token_ids") or ()) for choice in value["choices"])
                say(value, watch)
                if not shown:
                    hide_tokens(value)
                text = event(value)
            failed = failed or (value is not None and "error" in value)
            if told and not failed and value is None and "[DONE]" in _text(chunk):
                yield event({**head, "choices": nothing_more(head, usage=usage), FIELD: NO_PLAN})
            yield text
    finally:
        watch.replied({"prompt_tokens": prompt, "completion_tokens": reply}, None)


def _text(chunk: Any) -> str:
    return chunk if isinstance(chunk, str) else bytes(chunk).decode()


def _value(chunk: Any) -> dict[str, Any] | None:
    text = _text(chunk)
    return json.loads(text.removeprefix("data: ")) if text.startswith("data: {") else None
