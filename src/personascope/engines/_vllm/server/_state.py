"""State that the HTTP routes share: the engine, the plan store, and the requests in flight."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vllm import envs
from vllm.utils.import_utils import resolve_obj_by_qualname

from personascope.engines._capabilities import unsupported
from personascope.engines._http._answers import ShuttingDownError
from personascope.engines._http._book import PlanBook
from personascope.engines._http._chosen import Chosen
from personascope.engines._http._errors import problem
from personascope.engines._http._map_reader import READS, MapReader, Reading
from personascope.engines._http._metrics import Metrics
from personascope.engines._vllm._admission import AdmissionCheck
from personascope.engines._vllm._config import tokenizer_of
from personascope.engines._vllm._scheduler import PersonascopeAsyncScheduler, PersonascopeScheduler
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import read_results
from personascope.engines._vllm.request._spec import FIELD
from personascope.engines._vllm.server._front import Front, process_front
from personascope.engines._vllm.server._inflight import InFlightRequest, InFlightRequests
from personascope.engines._vllm.server._mapped import MapReads
from personascope.engines._vllm.server._replies import ReplyFormats
from personascope.engines._vllm.server._shutdown import Shutdown
from personascope.errors import EngineError
from personascope.interventions import Plan, reply_parts

log = logging.getLogger(__name__)

FIELDS = ("plan", "override", "probes", "pool", "gate", *READS)
"""Fields of the value in a request."""


def nothing_asked() -> EngineError:
    """Return the error of a request whose field asks for nothing."""
    return EngineError(
        f"the request's {FIELD} asks for nothing",
        hint=f"give one of {', '.join(FIELDS)}, or leave it out",
    )


def open_book(front: Front, admission: AdmissionCheck) -> PlanBook:
    """Return the plans of a server, with names, default and policy.

    Raises:
        PersonascopeError: If a plan is missing, or the map of inline plans is damaged.
    """
    options = front.options
    maker = None
    if options.maker is not None:
        maker = resolve_obj_by_qualname(options.maker.replace(":", "."))(*options.maker_args)
    book = PlanBook(
        PlanStore(admission.config.store),
        admission.check_plan,
        maker,
        options.default_plan,
        store_inline=True,
    )
    for name, digest in options.names.items():
        book.name(digest, name)
    book.use_default()
    book.apply(front.access.policy)
    return book


class Serving:
    """State of the plugin in one API server."""

    def __init__(
        self,
        engine: Any,
        admission: AdmissionCheck,
        state: Any,
        replies: ReplyFormats,
        *,
        uploads: bool,
        front: Front | None = None,
        reader: MapReader | None = None,
    ) -> None:
        """Hook the engine's outputs and its shutdown.

        Args:
            engine: vLLM's ``AsyncLLM``.
            admission: Check of requests, plans and probes.
            state: State of the application.
            replies: Formats of the replies to chats.
            uploads: Whether plans and probes may be uploaded.
            front: What stands before the application; that of the process if not given.
            reader: Reader of the map; None without one.

        Raises:
            PersonascopeError: If a plan of the options or the policy is missing, or a map is damaged.
        """
        self.front = front or process_front()
        self.engine = engine
        self.admission = admission
        self.uploads = uploads
        self.replies = replies
        self.maps = MapReads(reader, replies, admission)
        self.store = PlanStore(admission.config.store)
        self.book = open_book(self.front, admission)
        self.requests = InFlightRequests()
        self.requests.listen(engine.output_processor)
        self.shutdown = Shutdown()
        self.shutdown.watch(engine, state, lambda: len(self.requests))
        self.front.access.metrics.watch(ready=lambda: not self.shutdown.begun)
        self._tasks: set[asyncio.Task[None]] = set()

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that probes fit the model (`AdmissionCheck.check_probes`)."""
        self.admission.check_probes(probes)

    def forget(self, digest: str) -> None:
        """Drop an entry that was deleted."""
        self.store.forget(digest)

    @property
    def metrics(self) -> Metrics:
        """Metrics of the server."""
        return self.front.access.metrics

    def described(self) -> dict[str, Any]:
        """Return model and engine as JSON values, and in ``reads`` what can be read of replies."""
        model, admission = self.engine.vllm_config.model_config, self.admission
        name = model.served_model_name
        return {
            "model": name if isinstance(name, str) else name[0],
            "engine": "vllm",
            "dtype": admission.dtype,
            "n_layers": admission.n_layers,
            "context": model.max_model_len,
            "reads": self.maps.described(),
        }

    async def stats(self) -> dict[str, Any]:
        """Return what is under way, and what the workers hold, as JSON values."""
        workers = await self.engine.collective_rpc("personascope_stats")
        return {"under_way": len(self.requests), "workers": workers}

    def _probes(self, digest: Any) -> ProbeSet | None:
        if digest is not None and not isinstance(digest, str):
            raise EngineError(f"probes is {digest!r}"[:100], hint="give the digest that its upload returned")
        return None if digest is None else self.store.probes(digest)

    def admit(
        self, asked: Mapping[str, Any], request: Any, chosen: Chosen, reading: Reading | None = None
    ) -> InFlightRequest:
        """Check the plugin's field of a request, and return the request in flight with a new key.

        Args:
            asked: Value of the field.
            request: vLLM's request that it is in.
            chosen: What it runs under.
            reading: What is read of it in units of the map; None for nothing.

        Raises:
            EngineError: If the field is malformed, or cannot be honoured.
            ShuttingDownError: If the server is shutting down.
        """
        self.shutdown.check()
        unknown = sorted(set(asked) - set(FIELDS))
        if unknown:
            raise EngineError(
                f"the request's {FIELD} has an unknown field {unknown[0]!r}",
                hint=f"fields are {', '.join(FIELDS)}",
            )
        probes = self._probes(asked.get("probes"))
        pool = asked.get("pool", False)
        if not isinstance(pool, bool):
            raise EngineError(f"pool is {pool!r}", hint="give true or false")
        plan, gate, switched = chosen.plan, chosen.gate, chosen.switched
        moved = plan is not None or switched is not None
        mapped = self.maps.read(request, reading, probes, moved=moved)
        if plan is None and probes is None and not pool and mapped is None:
            raise nothing_asked()
        _refuse_turns(plan, switched)
        parts = any(one is not None and reply_parts(one) for one in (plan, switched))
        reply = self.replies.of(request) if gate is not None or parts else None
        if gate is not None and gate.tokens == "answer" and reply is None:
            gate = replace(gate, tokens="response")
        in_flight = InFlightRequest.new(
            plan=plan,
            probes=probes,
            pool=pool,
            samples=request.n or 1,
            digest=None if plan is None else plan.digest,
            reply=reply,
            gate=gate,
            switched=switched,
            mapped=mapped,
            seed=request.seed,
        )
        if mapped is not None:
            self.store.put(mapped.probes)
        for one in (plan, switched):
            if one is not None:
                # The engine reads it from the store, and so does the check.
                self.store.put(one)
        self.admission.check(in_flight.spec, self.store)
        return in_flight

    async def totals(self, in_flight: InFlightRequest) -> dict[str, Any]:
        """Fetch a request's results, which the engine then forgets, and return the reply's field.

        Raises:
            EngineError: If the results are missing or do not match the request.
        """
        rpc = self.engine.collective_rpc("personascope_fetch", args=(in_flight.keys,))
        blobs = await self.shutdown.unless_stopped(rpc)
        return in_flight.totals(read_results(blobs))

    def abandon(self, in_flight: InFlightRequest, stream: Any = None) -> None:
        """Forget a request that is no longer needed; its stream is closed first.

        This runs in a task of its own, because the task of a disconnected client is being cancelled.
        """
        self.requests.remove(in_flight)
        task = asyncio.get_running_loop().create_task(self._abandon(in_flight, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _abandon(self, in_flight: InFlightRequest, stream: Any) -> None:
        if stream is not None and hasattr(stream, "aclose"):
            await stream.aclose()
        if self.shutdown.begun:
            # The engine stops, with all that it holds.
            return
        await self.engine.collective_rpc("personascope_drop", args=(in_flight.keys,))

    async def stream(
        self, chunks: AsyncIterator[Any], in_flight: InFlightRequest, *, tokens: bool, usage: bool
    ) -> AsyncIterator[str]:
        """Add projections to a stream of events, and the totals before its end.

        Args:
            chunks: Events of vLLM.
            in_flight: Request that they answer.
            tokens: Whether the client asked for token ids; they are removed otherwise.
            usage: Whether the client asked for a chunk of usage, which has no choices.
        """
        # It is added only now, because vLLM starts the request when its stream is first read.
        self.requests.add(in_flight)
        head: dict[str, Any] = {}
        ended = failed = False
        try:
            async for chunk in self.shutdown.stream_unless_stopped(chunks):
                text = chunk if isinstance(chunk, str) else bytes(chunk).decode()
                if text.startswith("data: {"):
                    value = json.loads(text[len("data: ") :])
                    if "error" in value:
                        failed = True
                        if in_flight.problem:
                            value = problem(400, in_flight.problem)
                        elif self.shutdown.begun:
                            value = problem(503, str(ShuttingDownError()))
                    elif value.get("choices"):
                        head = {key: value[key] for key in ("id", "object", "created", "model")}
                        self._annotate(value, in_flight, tokens)
                    text = event(value)
                elif text.startswith("data: [DONE]") and not failed:
                    try:
                        totals = await self.totals(in_flight)
                        ended = True
                        last = {**head, "choices": nothing_more(head, usage=usage), FIELD: totals}
                    except ShuttingDownError as error:
                        last = problem(503, str(error))
                    except Exception as error:
                        # After any error, the client must not take the stream as complete.
                        log.exception("the results of a stream cannot be read")
                        last = problem(500, str(error))
                    yield event(last)
                yield text
        except ShuttingDownError as error:
            yield event(problem(503, str(error)))
            yield "data: [DONE]\n\n"
        finally:
            if ended:
                self.requests.remove(in_flight)
            else:
                self.abandon(in_flight, chunks)

    def _annotate(self, value: dict[str, Any], in_flight: InFlightRequest, tokens: bool) -> None:
        in_flight.prompt_tokens = in_flight.prompt_tokens or prompt_tokens(value)
        for choice in value["choices"]:
            in_flight.take(choice)
            if news := in_flight.news(choice["index"]):
                value[FIELD] = {"index": choice["index"], **news}
        if not tokens:
            hide_tokens(value)

    async def complete(self, value: dict[str, Any], in_flight: InFlightRequest, *, tokens: bool) -> None:
        """Add the plugin's field to a complete reply.

        Raises:
            EngineError: If the results are missing or do not match the request.
        """
        for choice in value["choices"]:
            in_flight.take(choice)
        in_flight.prompt_tokens = prompt_tokens(value)
        if not tokens:
            hide_tokens(value)
        value[FIELD] = await self.totals(in_flight)


def prompt_tokens(value: Mapping[str, Any]) -> int:
    """Return the number of tokens of the prompt, as a reply or a chunk of one says it; 0 if it does not."""
    return max(len(part.get("prompt_token_ids") or ()) for part in (value, *value["choices"]))


def _refuse_turns(*plans: Plan | None) -> None:
    """Refuse plans that act from a turn on, which a rendered prompt does not show.

    Raises:
        EngineError: If one does.
    """
    for plan in plans:
        for op in () if plan is None else plan.ops:
            if op.tokens.startswith("turn:"):
                assert plan is not None
                title = f"plan {plan.digest[:12]} acts on {op.tokens}"
                raise unsupported("server", "turn_plans", f"{title}: the request asks for")


def hide_tokens(value: dict[str, Any]) -> None:
    """Remove the token ids from a reply or a chunk of one."""
    for part in (value, *value["choices"]):
        for name in ("token_ids", "prompt_token_ids"):
            if name in part:
                part[name] = None


def nothing_more(head: Mapping[str, Any], *, usage: bool) -> list[dict[str, Any]]:
    """Return the choices of the chunk with the totals.

    There is one empty choice, because clients commonly read ``choices[0]`` of every chunk. A client that asks
    for usage gets none, because vLLM also sends it a chunk without choices.

    Args:
        head: Fields that all chunks of the stream have in common.
        usage: Whether the client asked for usage.
    """
    if usage:
        return []
    empty = {"delta": {"content": ""}} if head.get("object") == "chat.completion.chunk" else {"text": ""}
    return [{"index": 0, **empty, "logprobs": None, "finish_reason": None}]


def event(value: Any) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def open_serving(engine: Any, state: Any, args: Any, reader: MapReader | None = None) -> Serving:
    """Check that the plugin is in the engine, and return the state that the routes share.

    Args:
        engine: vLLM's ``AsyncLLM``.
        state: State of the application.
        args: Arguments of vLLM's server.
        reader: Reader of the map; None without one.

    Raises:
        EngineError: If a part of the plugin is missing, or the parallelism is not supported.
    """
    hint = "start the server by personascope serve, or with the flags that it prints"
    config = engine.vllm_config
    admission = AdmissionCheck.of(config)
    scheduler = config.scheduler_config.scheduler_cls
    if isinstance(scheduler, str):
        scheduler = resolve_obj_by_qualname(scheduler)
    ours = (PersonascopeScheduler, PersonascopeAsyncScheduler)
    if not isinstance(scheduler, type) or not issubclass(scheduler, ours):
        raise EngineError(f"the engine was started with the scheduler {scheduler}", hint=hint)
    if config.parallel_config.data_parallel_size > 1:
        raise unsupported("server", "data_parallel", "the server was started with")
    if config.parallel_config.pipeline_parallel_size > 1:
        raise unsupported("server", "pipeline_parallel", "the server was started with")
    try:
        await engine.collective_rpc("personascope_stats")
    except Exception as error:
        # vLLM passes on any error of the worker as a bare Exception.
        raise EngineError(f"the engine's worker is not personascope's: {error}", hint=hint) from error
    keys = getattr(args, "api_key", None) or [envs.VLLM_API_KEY]
    replies = ReplyFormats(partial(tokenizer_of, config.model_config), args)
    front = process_front()
    uploads = any(keys) or bool(front.access.policy.keys) or admission.config.allow_upload
    return Serving(engine, admission, state, replies, uploads=uploads, front=front, reader=reader)
