"""The plugin's HTTP routes (entry point ``vllm.endpoint_plugins``): plans per request, and their upload.

They precede vLLM's own two completion routes, and add routes under /v1/personascope, which the server's
API key protects like all of /v1. A request without the plugin's field is passed on unchanged.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from vllm.entrypoints.openai.chat_completion.api_router import create_chat_completion
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.api_router import create_completion
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.utils.api_utils import validate_json_request

from personascope.engines._capabilities import unsupported
from personascope.engines._http._answers import ShuttingDownError, failure_of, note_failure
from personascope.engines._http._chosen import choose
from personascope.engines._http._errors import StatusError, problem
from personascope.engines._http._field import CHAT, TEXT, FieldGuard, read_field
from personascope.engines._http._map_reader import READS, MapReader
from personascope.engines._http._openapi import with_field
from personascope.engines._http._policy import Rules
from personascope.engines._http._store_routes import store_routes
from personascope.engines._http._watch import RequestWatch, watch_of
from personascope.engines._vllm.request._spec import FIELD
from personascope.engines._vllm.server._front import open_reader, process_front
from personascope.engines._vllm.server._inflight import InFlightRequest
from personascope.engines._vllm.server._state import Serving, nothing_asked, open_serving
from personascope.engines._vllm.server._watched import run_plain, say, watched
from personascope.errors import EngineError, PersonascopeError

log = logging.getLogger(__name__)


class PersonascopeEndpoint:
    """Endpoint plugin of vLLM, which is loaded if ``VLLM_PLUGINS`` names it."""

    name = "personascope"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        """Begin without the engine, which `init_state` provides."""
        self._serving: Serving | None = None
        self._reader: MapReader | None = None
        self._missing = "the engine is not there yet"

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes and the middleware to an application."""

        async def chat(request: ChatCompletionRequest, raw_request: Request) -> Any:
            return await self._run(create_chat_completion, request, raw_request)

        async def text(request: CompletionRequest, raw_request: Request) -> Any:
            return await self._run(create_completion, request, raw_request)

        for path, route in ((CHAT, chat), (TEXT, text)):
            # The reply is vLLM's own response object, which FastAPI must not serialise by a model.
            app.add_api_route(
                path,
                route,
                methods=["POST"],
                dependencies=[Depends(validate_json_request)],
                response_model=None,
            )
        # A damaged map keeps the server from starting.
        self._reader = open_reader(process_front().options)
        answers = None if self._reader is None else self._reader.answers()
        app.router.routes.extend(store_routes(self._host, answers))
        if self._reader is not None:
            app.router.routes.extend(self._reader.routes())
        app.router.routes.append(Route("/ready", self._ready, methods=["GET"]))
        app.add_middleware(FieldGuard)
        own = app.openapi

        def openapi() -> dict[str, Any]:
            return with_field(own(), ("ChatCompletionRequest", "CompletionRequest"))

        # FastAPI answers /openapi.json by this function.
        app.openapi = openapi  # pyright: ignore[reportAttributeAccessIssue]

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Connect to the engine if the plugin's worker and scheduler are in it; else log a warning."""
        if engine_client is None:
            return
        try:
            self._serving = await open_serving(engine_client, state, args, self._reader)
        except EngineError as error:
            self._missing = f"{error.message}; {error.hint}"
            log.warning("requests with the field %s are refused: %s", FIELD, self._missing)
        process_front().access.metrics.set_ready(self._serving is not None)

    def serving(self) -> Serving:
        """Return the state that the routes share.

        Raises:
            EngineError: If the plugin is not in the engine.
        """
        if self._serving is None:
            raise EngineError(f"this server has no {FIELD} in its engine: {self._missing}")
        return self._serving

    async def _ready(self, raw: Request) -> JSONResponse:
        """Answer whether requests are taken: the engine is loaded, and the server is not shutting down."""
        del raw
        ready = self._serving is not None and not self._serving.shutdown.begun
        process_front().access.metrics.set_ready(ready)
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    def _host(self, raw: Request) -> Serving:
        try:
            serving = self.serving()
        except EngineError as error:
            raise StatusError(501, str(error)) from error
        watch_before(raw, serving)
        return serving

    async def _run(self, inner: Callable[..., Awaitable[Any]], request: Any, raw: Request) -> Any:
        try:
            asked = read_field(request)
        except EngineError as error:
            return JSONResponse(problem(400, str(error)), 400)
        try:
            serving = self.serving()
        except EngineError as error:
            if asked is None and not process_front().access.planned(rules_of(raw)):
                return await inner(request, raw)
            return JSONResponse(problem(501, str(error)), 501)
        try:
            watch = watch_before(raw, serving)
            if asked is not None and not asked:
                raise nothing_asked()
            chosen = await asyncio.to_thread(choose, serving.book, asked or {}, watch.rules)
            watch.runs(chosen.plan)
            # vLLM's own replies are those of a request that names nothing and has no plan.
            told = asked is not None or chosen.plan is not None
            reading = serving.maps.reading(asked, request) if told else None
            if chosen.plan is None and is_plain(asked) and reading is None:
                if asked is not None:
                    serving.shutdown.check()
                return await run_plain(inner, request, raw, watch, told=asked is not None)
            in_flight = serving.admit(asked or {}, request, chosen, reading)
            refuse_unfit(request, in_flight)
        except (StatusError, PersonascopeError) as error:
            note_failure(raw, error)
            return failure_of(error)
        # Token ids are needed to count the tokens and to match projections to them.
        tokens = bool(request.return_token_ids)
        request.return_token_ids = True
        request.vllm_xargs = {
            **(request.vllm_xargs or {}),
            FIELD: json.dumps(in_flight.spec.extra_args()[FIELD]),
        }
        if request.stream:
            response = await inner(request, raw)
            if isinstance(response, StreamingResponse):
                chunks: Any = response.body_iterator
                usage = bool(getattr(request.stream_options, "include_usage", False))
                stream = serving.stream(chunks, in_flight, tokens=tokens, usage=usage)
                response.body_iterator = watched(stream, watch, in_flight)
            return response
        response = await _whole(serving, in_flight, inner, request, raw, tokens)
        watch.replied(in_flight.usage, in_flight.told)
        if watch.texts is not None and isinstance(response, JSONResponse):
            say(json.loads(bytes(response.body)), watch)
        return response


def rules_of(raw: Request) -> Rules:
    """Return the rules of a request's key."""
    watch = watch_of(raw.scope)
    return process_front().access.policy.rules if watch is None else watch.rules


def watch_before(raw: Request, serving: Serving) -> RequestWatch:
    """Return the watch of a request.

    Raises:
        StatusError: 501 if the policy has keys, and no guard has asked for them.
    """
    watch = watch_of(raw.scope)
    if watch is None and serving.front.access.policy.keys:
        raise StatusError(501, "the policy has keys, and the server was started without personascope's guard")
    return watch or RequestWatch(serving.front.access.policy.rules)


def is_plain(asked: Mapping[str, Any] | None) -> bool:
    """Return whether the field asks for nothing but, in so many words, no plan or no positions."""
    return asked is None or set(asked) - set(READS) <= {"plan"}


async def _whole(
    serving: Serving,
    in_flight: InFlightRequest,
    inner: Callable[..., Awaitable[Any]],
    request: Any,
    raw: Request,
    tokens: bool,
) -> Any:
    """Return the reply to a request that is not streamed."""
    serving.requests.add(in_flight)
    done = False
    try:
        response = await serving.shutdown.unless_stopped(inner(request, raw))
        if not isinstance(response, JSONResponse) or response.status_code != 200:
            # It is an error of vLLM, or None if the client disconnected.
            if isinstance(response, JSONResponse) and response.status_code >= 500:
                serving.shutdown.check()
            return response
        value = json.loads(bytes(response.body))
        await serving.complete(value, in_flight, tokens=tokens)
        done = True
    except Exception as error:
        if in_flight.problem:
            return JSONResponse(problem(400, in_flight.problem), 400)
        if isinstance(error, ShuttingDownError):
            return JSONResponse(problem(503, str(error)), 503)
        if isinstance(error, EngineError):
            return JSONResponse(problem(500, str(error)), 500)
        raise
    finally:
        if done:
            serving.requests.remove(in_flight)
        else:
            serving.abandon(in_flight)
    headers = {name: text for name, text in response.headers.items() if name.lower() != "content-length"}
    return JSONResponse(value, headers=headers, background=response.background)


def refuse_unfit(request: Any, in_flight: InFlightRequest) -> None:
    """Refuse options of a request that cannot be combined with the plugin's field.

    Raises:
        EngineError: If there is such an option; the message names it.
    """
    prompt = getattr(request, "prompt", None)
    several = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    used = {
        "beam_search": request.use_beam_search,
        "several_prompts": several,
        "prompt_embeds": getattr(request, "prompt_embeds", None),
        "echo": isinstance(request, CompletionRequest) and request.echo,
        "hidden_reasoning_probes": in_flight.probes is not None
        and getattr(request, "include_reasoning", True) is False,
    }
    for key, is_used in used.items():
        if is_used:
            raise unsupported("server", key, f"the request has the field {FIELD} and asks for")
