"""The ``Engine`` contract on vLLM."""

# pyright: reportMissingImports=false
from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from personascope.chat import ChatFormat, ChatOptions, Conversation, Message, TranscriptFormat
from personascope.engines._capabilities import unsupported
from personascope.engines._checks import check_plan, check_request, refuse_watch
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
)
from personascope.engines._gate import DeclaredWatch
from personascope.engines._parts import check_reply_parts, part_starts, response_start, turn_spans
from personascope.engines._texts import Texts
from personascope.engines._vllm._completion import (
    check_ran,
    completion,
    cut_response,
    scored,
    turn_activations,
)
from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._driver import Driver
from personascope.engines._vllm._replay import opened, replay
from personascope.engines._vllm._start import CPU_SETTINGS, import_vllm, plugin_options
from personascope.engines._vllm._submit import (
    InFlightRequest,
    RenderedRequest,
    SpecBuilder,
    prefill_params,
    sampling_params,
)
from personascope.engines._vllm._version import vllm_version
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import Reading
from personascope.engines._vllm.request._spec import Spec
from personascope.errors import EngineError
from personascope.interventions import Plan, reply_parts
from personascope.models import ModelFiles

WINDOW = 1024
"""Number of requests to read ahead, so that prompts with a shared prefix run together and reuse its keys."""


class VLLMEngine(Texts[ModelFiles]):
    """The ``Engine`` contract on vLLM, with the plugin inside.

    The engine runs in this process, because a process of its own would cost a copy of every result.
    """

    def __init__(
        self,
        files: ModelFiles,
        *,
        dtype: str = "bfloat16",
        max_batch: int = 128,
        layers: Iterable[int] | None = None,
        chat: ChatFormat | TranscriptFormat | None = None,
        sampler: str = "auto",
        flavour: str = "auto",
        **options: Any,
    ) -> None:
        """Start vLLM.

        Args:
            files: Files of the model, from ``personascope.models.open_files``.
            dtype: Dtype of the weights.
            max_batch: Maximum number of sequences that run together.
            layers: Layers that may be edited or read; None for all.
            chat: Format of conversations instead of the model's own.
            sampler: "personascope" draws as the Transformers engine does, with the same random numbers per
                request. "vllm" is vLLM's sampler with a seed per request. "auto" is the first on a CPU, where
                it is also faster, else the second.
            flavour: "dynamic", "static" (for CUDA graphs) or "auto".
            options: Further arguments of ``vllm.LLM``; ``async_scheduling`` is off by default.

        Raises:
            EngineError: If vLLM is not installed, or cannot be started with this model.
        """
        llm_class = import_vllm()
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        self.files = files
        self.chat = chat or files.chat
        self.dtype = dtype
        self.max_batch = max_batch
        self._cpu = cpu
        self._asynchronous = bool(options.get("async_scheduling"))
        self._draws = sampler == "personascope" or (sampler == "auto" and cpu)
        scratch = tempfile.TemporaryDirectory(prefix="personascope-")
        self._store = PlanStore(Path(scratch.name) / "plans")
        chosen = None if layers is None else frozenset(layers)
        self._specs = SpecBuilder(self._store, files.n_layers, chosen)
        config = PluginConfig(
            str(self._store.folder),
            chosen,
            files.model_id,
            files.revision,
            flavour,
            Limits(slots=3 * max_batch + 64),
        )
        settings: dict[str, Any] = {
            "model": files.place,
            "dtype": dtype,
            "max_num_seqs": max_batch,
            "max_model_len": min(files.max_length or 8192, 8192),
            "disable_log_stats": True,
            "enable_prefix_caching": True,
            **plugin_options(config, asynchronous=bool(options.get("async_scheduling")), draws=self._draws),
        }
        if cpu:
            settings |= CPU_SETTINGS
            # On a CPU in eager mode vLLM has no buffers for a pipeline.
            settings["enforce_eager"] = options.get("pipeline_parallel_size", 1) == 1
        else:
            # A step that runs ahead would also read the end-of-turn token, so every response would be reread.
            settings |= {"async_scheduling": False}
        try:
            self.llm: Any = llm_class(**(settings | options))
        except Exception as error:
            # An error of a worker process arrives as a bare Exception.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"vLLM cannot be started with {files.model_id}: {reason}",
                hint="see the lines that it printed above; the transformers engine may know the model",
            ) from error
        self._driver = Driver(self.llm, scratch)
        vllm_config = self.llm.llm_engine.vllm_config
        # vLLM reserves room for one more token than requested.
        self._context = int(vllm_config.model_config.max_model_len) - 1
        self._limits = config.limits if config.static(vllm_config, gpu=not cpu) else None

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model."""
        files, chat = self.files, self.chat
        return EngineInfo(
            engine="vllm",
            model_id=files.model_id,
            model_revision=files.revision,
            n_layers=files.n_layers,
            d_model=files.d_model,
            dtype=self.dtype,
            chat_digest=chat.digest if chat else "",
            versions={name: version(name) for name in ("personascope", "torch", "transformers")}
            | {"vllm": vllm_version(), "python": platform.python_version()},
            context=self._context,
            **self._chat_info(),
        )

    def with_transcript(self) -> VLLMEngine:
        """Return an engine on the same vLLM that writes conversations as a plain transcript."""
        return self._with_format(self._transcript_chat())

    def with_chat(self, options: ChatOptions) -> VLLMEngine:
        """Return an engine on the same vLLM whose chat template is rendered with other options.

        Raises:
            ChatError: If the model has no chat template, or the template has no such variable.
        """
        return self._with_format(self._chat_with(options))

    def _with_format(self, chat: ChatFormat | TranscriptFormat) -> VLLMEngine:
        other = object.__new__(VLLMEngine)
        other.__dict__ |= self.__dict__
        other.chat = chat
        return other

    def close(self) -> None:
        """Stop vLLM and free its memory.

        Engines of one process share vLLM's globals, which stopping one of them would destroy. Memory is
        therefore freed when all have been closed. Engines that share a vLLM (``with_chat``) close together.
        """
        self._driver.close()

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded in completion order.

        Raises:
            EngineError: If a request cannot be honoured.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        waiting: list[RenderedRequest] = []
        running: dict[str, InFlightRequest] = {}
        try:
            while True:
                if len(waiting) < self.max_batch:
                    ahead = [self._rendered(request) for request in islice(source, WINDOW)]
                    waiting += sorted(ahead, key=lambda item: item.prompt)
                # vLLM's own queue is kept short, because requests in it cannot be sorted any more.
                while waiting and len(running) < 2 * self.max_batch and self._fits(waiting[0], running):
                    name, in_flight = self._submit(waiting.pop(0))
                    running[name] = in_flight
                if not running:
                    return
                ended = self._driver.ended(running)
                for output in ended:
                    check_ran(running[output.request_id].request.id, output)
                done = [(output, running.pop(output.request_id)) for output in ended]
                readings = self._driver.fetch(
                    [in_flight.spec.key for _, in_flight in done if in_flight.spec is not None]
                )
                for output, in_flight in done:
                    yield self._completion(output, in_flight, readings)
        finally:
            self._driver.abandon({name: in_flight.spec for name, in_flight in running.items()})

    def _fits(self, rendered: RenderedRequest, running: dict[str, InFlightRequest]) -> bool:
        """Return whether the static flavour's tables have room for a request besides those in flight."""
        limits, request = self._limits, rendered.request
        if limits is None:
            return True
        live = [in_flight.spec for in_flight in running.values() if in_flight.spec is not None]
        plan = None if request.plan is None else request.plan.digest
        probes = ProbeSet.of(request.probes).digest if request.probes else None
        return limits.fits(plan, probes, live, gated=request.watch is not None)

    def _rendered(self, request: Request) -> RenderedRequest:
        check_request(request, self.files)
        if not isinstance(request.watch, DeclaredWatch):
            refuse_watch(request, "vllm")
        prompt, name = request.prompt, f"request {request.id!r}"
        if request.watch is not None and self._asynchronous:
            raise EngineError(
                f"{name} has a watch, and a step that runs ahead may read a token after the response's last",
                hint="start the engine with async_scheduling=False, its default",
            )
        if not isinstance(prompt[0], Message):
            check_reply_parts(name, request.plan, request.tokens, None)
            return RenderedRequest(request, tuple(prompt))  # pyright: ignore[reportArgumentType]
        rendered = self._chat().render_with_spans(prompt, add_generation_prompt=True)  # pyright: ignore[reportArgumentType]
        check_reply_parts(name, request.plan, request.tokens, rendered.reply)
        turns = tuple((span.start, span.end) for span in rendered.spans)
        return RenderedRequest(request, tuple(rendered.token_ids), turns, rendered.reply, self._context)

    def _submit(self, rendered: RenderedRequest) -> tuple[str, InFlightRequest]:
        request, gate = rendered.request, rendered.gate
        if gate is not None and gate.action != "stop":
            check_plan(f"the watch of request {request.id!r}", gate.action, request.prompt, self.files)
        name = self._driver.name()
        spec = self._specs.of_request(name, rendered, gate)
        params = sampling_params(
            rendered,
            spec,
            eos=self.files.eos_token_ids,
            stops=self._stops(request),
            draws=self._draws,
            cpu=self._cpu,
        )
        self._driver.add(name, rendered.prompt, params, request.id)
        return name, InFlightRequest(rendered, spec, gate)

    def _completion(
        self, output: Any, in_flight: InFlightRequest, readings: dict[str, Reading]
    ) -> Completion:
        rendered = in_flight.rendered
        reading = None if in_flight.spec is None else readings[in_flight.spec.key]
        response = cut_response(self, output, in_flight, reading, self._stops(rendered.request))
        if rendered.request.watch is not None and rendered.reads_response and reading is not None:
            replay(in_flight, reading)
        read = reading if rendered.watched else None
        if rendered.watched and response.chosen:
            start = len(rendered.prompt)
            if reading is None or not rendered.reads_response or not response.is_read_by(reading, start):
                # Stop texts and marks are known only after their tokens have passed, so they pass again.
                gate = opened(in_flight, reading)
                spans = [(start + low, start + high) for low, high in response.chosen]
                spec = self._specs.of_reading(self._driver.name(), rendered, spans, gate)
                read = self._driver.read((*rendered.prompt, *response.tokens), spec)
        return completion(output, in_flight, response, reading, read, self.files.n_layers)

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of an existing conversation.

        Raises:
            UsageError: If there is no such selection of tokens.
            EngineError: If a layer does not exist, a probe has the wrong width, or the plan cannot act on
                this model or conversation.
            ChatError: If the conversation cannot be rendered.
        """
        asked = Request("observe", conversation, plan=plan, capture=capture, probes=probes)
        check_request(asked, self.files)
        rendered = self._chat().render_with_spans(conversation, add_generation_prompt=False)
        turns = turn_spans(rendered, tokens)
        read = [span for span in turns if span.end > span.start]
        layers = () if capture is None else capture.layers or tuple(range(self.files.n_layers))
        spec = self._specs.of_conversation(
            self._driver.name(),
            spans=[(span.start, span.end) for span in read],
            response=response_start(rendered),
            turns=tuple(span.start for span in rendered.spans),
            capture=capture,
            probes=probes,
            plan=plan,
            parts=part_starts(rendered),
        )
        reading = self._driver.read(tuple(rendered.token_ids), spec)
        return turn_activations(turns, read, reading, layers, probes)

    def follow(self, *, capture: Capture | None = None, probes: tuple[Probe, ...] = ()) -> NoReturn:
        """Raise: only the Transformers engine can follow a growing conversation.

        Raises:
            EngineError: Always.
        """
        del capture, probes
        raise unsupported("vllm", "follow", "follow asks for")

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-probabilities of given continuations, in completion order within a window.

        Raises:
            EngineError: If a continuation is empty, or a plan cannot act on this model or conversation.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        while ahead := list(islice(source, 2 * self.max_batch)):
            running: dict[str, Spec | None] = {}
            asked: dict[str, tuple[ScoreRequest, int]] = {}
            try:
                for request in ahead:
                    name, spec, start = self._submit_score(request)
                    running[name] = spec
                    asked[name] = request, start
                while running:
                    ended = self._driver.ended(running)
                    for output in ended:
                        check_ran(asked[output.request_id][0].id, output)
                    done = [(output, running.pop(output.request_id)) for output in ended]
                    readings = self._driver.fetch([spec.key for _, spec in done if spec is not None])
                    for output, spec in done:
                        request, start = asked[output.request_id]
                        reading = None if spec is None else readings[spec.key]
                        yield scored(request, output, start, reading)
            finally:
                self._driver.abandon(running)

    def _submit_score(self, request: ScoreRequest) -> tuple[str, Spec | None, int]:
        """Submit a continuation; return its name, its spec and its first position."""
        if not request.continuation:
            raise EngineError(
                f"request {request.id!r} has no continuation to score", hint="give one token or more"
            )
        if request.plan is not None and reply_parts(request.plan):
            raise EngineError(
                f"request {request.id!r} acts on {reply_parts(request.plan)[0]!r}, and the parts of a "
                "continuation are not told apart",
                hint="act on the response",
            )
        rendered = self._rendered(Request(request.id, request.prompt, plan=request.plan))
        name, prompt = self._driver.name(), rendered.prompt
        spec = self._specs.of_score(name, request, len(prompt), rendered.turn_starts)
        params = prefill_params(spec, logprobs=True)
        self._driver.add(name, (*prompt, *request.continuation), params, request.id)
        return name, spec, len(prompt)

    def register(self, value: Plan | ProbeSet) -> str:
        """Store a plan or probes for use by requests, and return their digest.

        This is for requests that are sent to ``self.llm`` directly; the methods of the contract do it
        themselves.
        """
        return self._store.put(value)

    def stats(self) -> dict[str, int]:
        """Return the numbers of requests, slots, plans and results that the plugin holds in the worker."""
        return self._driver.engine.collective_rpc("personascope_stats")[0]

    def preemptions(self) -> int:
        """Return how often vLLM preempted a running request."""
        return self._driver.engine.engine_core.engine_core.scheduler.personascope_preemptions
