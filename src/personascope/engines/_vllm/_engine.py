"""The ``Engine`` contract on vLLM."""

# pyright: reportMissingImports=false
from __future__ import annotations

import platform
import tempfile
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from personascope.chat import ChatFormat, Conversation, Message, TranscriptFormat
from personascope.engines._checks import check_request, refuse_watch
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
    request_seed,
)
from personascope.engines._stop import before_stop_string
from personascope.engines._texts import Texts
from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._start import CPU_SETTINGS, import_vllm, plugin_options
from personascope.engines._vllm._version import vllm_version
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import DRAW, Spec
from personascope.errors import EngineError
from personascope.interventions import Plan
from personascope.models import ModelFiles, open_files

WINDOW = 1024
"""Requests read ahead, so that prompts that share a prefix come together and its keys are reused."""


_ALIVE: set[Any] = set()
_CLOSED: list[tuple[Any, Any]] = []


@dataclass(slots=True, eq=False)
class _InFlightRequest:
    """A request inside vLLM."""

    request: Request
    prompt: tuple[int, ...]
    spec: Spec | None

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must pass too."""
        return self.request.capture is not None or bool(self.request.probes)


class VLLMEngine(Texts[ModelFiles]):
    """The ``Engine`` contract on vLLM, with the plugin inside.

    The engine lives in this process: vLLM's own process would cost a copy of every result.
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
            files: From ``personascope.models.open_files``.
            dtype: Dtype of the weights.
            max_batch: Sequences that run side by side, at most.
            layers: Layers that may be edited or read; None for all.
            chat: Format of conversations instead of the model's own.
            sampler: "personascope" draws as the Transformers engine does, the same tokens for the same
                request; "vllm" leaves it to vLLM, with a seed of the request's own; "auto" is the first
                on a CPU, where it is the faster one too, else the second.
            flavour: "dynamic", "static" (for CUDA graphs) or "auto".
            options: More arguments for ``vllm.LLM``; ``async_scheduling`` is off if nothing is said.

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
        self._draws = sampler == "personascope" or (sampler == "auto" and cpu)
        self._scratch = tempfile.TemporaryDirectory(prefix="personascope-")
        self._spool = PlanStore(Path(self._scratch.name) / "spool")
        self._armed = None if layers is None else frozenset(layers)
        config = PluginConfig(
            str(self._spool.folder),
            self._armed,
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
            # In eager mode vLLM has no buffers for a pipeline there.
            settings["enforce_eager"] = options.get("pipeline_parallel_size", 1) == 1
        else:
            # A step that runs ahead would read the end-of-turn token too, and each response anew.
            settings |= {"async_scheduling": False}
        try:
            self.llm: Any = llm_class(**(settings | options))
        except Exception as error:
            # What a worker process raised arrives as a bare Exception.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"vLLM cannot be started with {files.model_id}: {reason}",
                hint="see the lines that it printed above; the transformers engine may know the model",
            ) from error
        self._engine: Any = self.llm.llm_engine
        self._limits = config.limits if config.static(self._engine.vllm_config, gpu=not cpu) else None
        # Held until it is closed, also when nobody else holds it.
        _ALIVE.add(self.llm)
        self._names = count(1)
        self._done: dict[str, Any] = {}

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
            # vLLM keeps room for one token more than it is asked for.
            context=int(self._engine.vllm_config.model_config.max_model_len) - 1,
        )

    def with_transcript(self) -> VLLMEngine:
        """Return an engine on the same vLLM that writes conversations as a plain transcript."""
        other = object.__new__(VLLMEngine)
        other.__dict__ |= self.__dict__
        other.chat = self._transcript_chat()
        return other

    def close(self) -> None:
        """Stop vLLM and give its memory back.

        Engines of one process share vLLM's globals, which the first one to go would take along: memory is
        given back when all have been closed. An engine that shares its vLLM (a transcript's) closes both.
        """
        if self.llm not in _ALIVE:
            return
        _ALIVE.remove(self.llm)
        _CLOSED.append((self.llm, self._scratch))
        if not _ALIVE:
            while _CLOSED:
                llm, scratch = _CLOSED.pop()
                llm.llm_engine.engine_core.shutdown()
                scratch.cleanup()

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded as they end.

        Raises:
            EngineError: If a request cannot be honoured.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        waiting: list[tuple[Request, tuple[int, ...], tuple[int, ...]]] = []
        flying: dict[str, _InFlightRequest] = {}
        try:
            while True:
                if len(waiting) < self.max_batch:
                    ahead = [self._rendered(request) for request in islice(source, WINDOW)]
                    waiting += sorted(ahead, key=lambda item: item[1])
                # vLLM's own queue is kept short: what waits in it cannot be sorted any more.
                while waiting and len(flying) < 2 * self.max_batch and self._fits(waiting[0][0], flying):
                    name, flight = self._submit(*waiting.pop(0))
                    flying[name] = flight
                if not flying:
                    return
                ended = self._ended(flying)
                for output in ended:
                    _check_ran(flying[output.request_id].request.id, output)
                done = [(output, flying.pop(output.request_id)) for output in ended]
                readings = self._fetch([flight.spec.key for _, flight in done if flight.spec is not None])
                for output, flight in done:
                    yield self._completion(output, flight, readings)
        finally:
            self._abandon({name: flight.spec for name, flight in flying.items()})

    def _fits(self, request: Request, flying: dict[str, _InFlightRequest]) -> bool:
        """Return whether the tables of the static flavour have room for a request beside those in flight."""
        limits = self._limits
        if limits is None:
            return True
        specs = [flight.spec for flight in flying.values() if flight.spec is not None]
        plans = {spec.plan for spec in specs} - {None}
        probes = {spec.probes for spec in specs} - {None}
        if request.plan is not None and len(plans | {request.plan.digest}) > limits.plans:
            return False
        asked = ProbeSet.of(request.probes).digest if request.probes else None
        return asked is None or len(probes | {asked}) <= limits.probe_sets

    def _rendered(self, request: Request) -> tuple[Request, tuple[int, ...], tuple[int, ...]]:
        check_request(request, self.files)
        refuse_watch(request, "vLLM")
        prompt = request.prompt
        if not isinstance(prompt[0], Message):
            return request, tuple(prompt), ()  # pyright: ignore[reportReturnType]
        rendered = self._chat().render_with_spans(prompt, add_generation_prompt=True)  # pyright: ignore[reportArgumentType]
        return request, tuple(rendered.token_ids), tuple(span.start for span in rendered.spans)

    def _submit(
        self, request: Request, prompt: tuple[int, ...], turns: tuple[int, ...]
    ) -> tuple[str, _InFlightRequest]:
        from vllm import SamplingParams

        sampling = request.sampling
        name = self._name()
        flight = _InFlightRequest(request, prompt, None)
        if flight.watched or request.plan is not None:
            # One token more than asked for is drawn, so that the last one passes through the model.
            span = (len(prompt), len(prompt) + sampling.max_new_tokens)
            flight.spec = Spec(
                key=name,
                plan=None if request.plan is None else self._spool.put(request.plan),
                turns=turns,
                spans=(span,),
                pool=request.capture is not None,
                layers=self._pooled_layers(request.capture),
                probes=self._spool.put(ProbeSet.of(request.probes)) if request.probes else None,
            )
        extra = {} if flight.spec is None else flight.spec.extra_args()
        seed = request_seed(request.seed, request.id)
        own: dict[str, Any] = {"top_p": sampling.top_p, "seed": seed >> 1}
        if self._draws and sampling.temperature > 0:
            own = {}
            extra[DRAW] = {"seed": seed, "top_p": sampling.top_p}
        elif self._cpu and sampling.temperature > 0:
            raise EngineError(
                f"request {request.id!r} is sampled, and vLLM's own sampler takes no seed on a CPU",
                hint="leave the sampler of this engine at auto, or sample greedily",
            )
        stops = list(self._stops(request))
        params = SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens + flight.watched,
            min_tokens=sampling.min_new_tokens,
            stop_token_ids=sorted(self.files.eos_token_ids),
            stop=stops or None,
            include_stop_str_in_output=bool(stops),
            detokenize=bool(stops),
            skip_special_tokens=False,
            logprobs=0 if request.logprobs else None,
            extra_args=extra or None,
            **own,
        )
        self._add(name, prompt, params, request.id)
        return name, flight

    def _pooled_layers(self, capture: Capture | None) -> tuple[int, ...] | None:
        """Return what a spec says of a capture's layers; None for all that are armed."""
        if capture is None or capture.layers is not None or self._armed is None:
            return None if capture is None else capture.layers
        # All of the model's are asked for: the scheduler says which of them are not armed.
        return tuple(range(self.files.n_layers))

    def _add(self, name: str, prompt: tuple[int, ...], params: Any, shown: str) -> None:
        from vllm.exceptions import VLLMClientError

        try:
            self._engine.add_request(name, {"prompt_token_ids": list(prompt)}, params)
        except (ValueError, VLLMClientError) as error:
            raise EngineError(
                f"vLLM refuses request {shown!r}: {str(error).splitlines()[0]}",
                hint="shorten the prompt or max_new_tokens, or start the engine with a larger max_model_len",
            ) from error

    def _name(self) -> str:
        return f"ps{next(self._names)}"

    def _completion(self, output: Any, flight: _InFlightRequest, readings: dict[str, Reading]) -> Completion:
        request = flight.request
        sample = output.outputs[0]
        tokens = list(sample.token_ids)
        limit = request.sampling.max_new_tokens
        stopped = sample.finish_reason == "stop"
        if stopped and tokens and tokens[-1] in self.files.eos_token_ids:
            tokens.pop()
        if len(tokens) > limit or (stopped and len(tokens) == limit and flight.watched):
            # The token beyond the limit was drawn so that the last one passes; it is not part of it.
            tokens, stopped = tokens[:limit], False
        stops = self._stops(request)
        cut = stopped and bool(stops) and isinstance(sample.stop_reason, str)
        if cut:
            text, tokens = before_stop_string(self.files.tokenizer, tokens, stops)
        else:
            text = self.decode(tuple(tokens))
        reading = None if flight.spec is None else readings[flight.spec.key]
        pooled, projections = None, dict.fromkeys((p.name for p in request.probes), np.zeros(0, np.float32))
        if reading is not None and flight.watched and tokens:
            if cut or reading.counts[0] != len(tokens):
                # A stop text is found after its tokens have passed: the response is read anew.
                reading = replace(self._reread(flight, tokens), tally=reading.tally)
            if reading.counts[0] != len(tokens):
                raise EngineError(
                    f"request {request.id!r}: {reading.counts[0]} of {len(tokens)} response tokens were read",
                    hint="report this with the vLLM version; the completion is not used",
                )
            if request.capture is not None:
                layers = request.capture.layers or tuple(range(self.files.n_layers))
                pooled = reading.mean(0, layers)
            if request.probes:
                columns = reading.projections[0].T
                projections = {probe.name: columns[n] for n, probe in enumerate(request.probes)}
        plan = request.plan
        if plan is not None and (reading is None or reading.plan != plan.digest):
            raise _without_plan(request.id, plan)
        return Completion(
            id=request.id,
            text=text,
            token_ids=tuple(tokens),
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(flight.prompt),
            pooled=pooled,
            token_count=len(tokens),
            projections=projections,
            plan_digest=None if plan is None else plan.digest,
            telemetry=None if plan is None or reading is None else reading.tally.telemetry(plan),
            logprobs=_drawn_logprobs(sample, tokens) if request.logprobs else None,
        )

    def _reread(self, flight: _InFlightRequest, tokens: list[int]) -> Reading:
        """Feed a response once more and read it."""
        assert flight.spec is not None
        start = len(flight.prompt)
        spec = replace(flight.spec, key=self._name(), response=start, spans=((start, start + len(tokens)),))
        return self._pass((*flight.prompt, *tokens), spec)

    def _pass(self, tokens: tuple[int, ...], spec: Spec) -> Reading:
        """Pass tokens through the model and return what the spec reads."""
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0,
            max_tokens=1,
            detokenize=False,
            skip_reading_prefix_cache=True,
            extra_args=spec.extra_args(),
        )
        self._add(spec.key, tokens, params, spec.key)
        (output,) = self._ended({spec.key})
        _check_ran(spec.key, output)
        return self._fetch([spec.key])[spec.key]

    def _ended(self, names: Container[str]) -> list[Any]:
        """Step until some of the requests have ended; what others come to meanwhile is kept for them."""
        while not (found := [name for name in self._done if name in names]):
            for output in self._engine.step():
                if output.finished:
                    self._done[output.request_id] = output
        return [self._done.pop(name) for name in found]

    def _fetch(self, keys: list[str]) -> dict[str, Reading]:
        if not keys:
            return {}
        return read_results(self._engine.collective_rpc("personascope_fetch", args=(keys,)))

    def _abandon(self, flying: dict[str, Spec | None]) -> None:
        """Take back what nobody waits for any more."""
        if not flying:
            return
        self._engine.abort_request(list(flying))
        for name in flying:
            self._done.pop(name, None)
        keys = [spec.key for spec in flying.values() if spec is not None]
        self._engine.collective_rpc("personascope_drop", args=(keys,))

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of an existing conversation.

        Raises:
            EngineError: If a layer does not exist, a probe has another width, or the plan cannot act on
                this model or conversation.
            ChatError: If the conversation cannot be rendered.
        """
        check_request(Request("observe", conversation, plan=plan, capture=capture, probes=probes), self.files)
        rendered = self._chat().render_with_spans(conversation, add_generation_prompt=False)
        replies = [span.start for span in rendered.spans if span.role == "assistant"]
        read = [span for span in rendered.spans if span.end > span.start]
        layers = () if capture is None else capture.layers or tuple(range(self.files.n_layers))
        spec = Spec(
            key=self._name(),
            plan=None if plan is None else self._spool.put(plan),
            response=replies[-1] if replies else len(rendered.token_ids),
            turns=tuple(span.start for span in rendered.spans),
            spans=tuple((span.start, span.end) for span in read),
            pool=capture is not None and bool(read),
            layers=self._pooled_layers(capture),
            norms=capture is not None and capture.norms and bool(read),
            probes=self._spool.put(ProbeSet.of(probes)) if probes else None,
        )
        reading = self._pass(tuple(rendered.token_ids), spec)
        found: list[TurnActivations] = []
        for span in rendered.spans:
            place = read.index(span) if span in read else None
            norms = None
            if place is not None and reading.norms is not None:
                columns = [reading.layers.index(layer) for layer in layers]
                norms = (reading.norms[place][columns] / reading.counts[place]).astype(np.float32)
            found.append(
                TurnActivations(
                    index=span.index,
                    role=span.role,
                    pooled=None if place is None or not layers else reading.mean(place, layers),
                    token_count=span.end - span.start,
                    projections={
                        probe.name: np.zeros(0, np.float32)
                        if place is None
                        else reading.projections[place][:, number]
                        for number, probe in enumerate(probes)
                    },
                    norms=norms,
                )
            )
        return found

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Return the log-probabilities of given continuations.

        Raises:
            EngineError: If a continuation is empty, or a plan cannot act on this model or conversation.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        while ahead := list(islice(source, 2 * self.max_batch)):
            flying: dict[str, Spec | None] = {}
            asked: dict[str, tuple[ScoreRequest, int]] = {}
            try:
                for request in ahead:
                    name, spec, start = self._submit_score(request)
                    flying[name] = spec
                    asked[name] = request, start
                while flying:
                    ended = self._ended(flying)
                    for output in ended:
                        _check_ran(asked[output.request_id][0].id, output)
                    done = [(output, flying.pop(output.request_id)) for output in ended]
                    readings = self._fetch([spec.key for _, spec in done if spec is not None])
                    for output, spec in done:
                        request, start = asked[output.request_id]
                        reading = None if spec is None else readings[spec.key]
                        yield _scored(request, output, start, reading)
            finally:
                self._abandon(flying)

    def _submit_score(self, request: ScoreRequest) -> tuple[str, Spec | None, int]:
        """Send a continuation; return its name, its spec and where it begins."""
        from vllm import SamplingParams

        if not request.continuation:
            raise EngineError(
                f"request {request.id!r} has no continuation to score", hint="give one token or more"
            )
        _, prompt, turns = self._rendered(Request(request.id, request.prompt, plan=request.plan))
        name = self._name()
        spec = None
        if request.plan is not None:
            spec = Spec(name, self._spool.put(request.plan), response=len(prompt), turns=turns)
        params = SamplingParams(
            temperature=0,
            max_tokens=1,
            prompt_logprobs=1,
            detokenize=False,
            extra_args=None if spec is None else spec.extra_args(),
        )
        self._add(name, (*prompt, *request.continuation), params, request.id)
        return name, spec, len(prompt)

    def register(self, value: Plan | ProbeSet) -> str:
        """Put a plan or probes where requests find them, and return the digest that names them there.

        For who drives ``self.llm`` without this class; ``run`` and its like do it themselves.
        """
        return self._spool.put(value)

    def stats(self) -> dict[str, int]:
        """Return what the plugin holds in the worker: requests, slots, plans, results."""
        return self._engine.collective_rpc("personascope_stats")[0]

    def preemptions(self) -> int:
        """Return how often a running request had to give its memory to another one."""
        return self._engine.engine_core.engine_core.scheduler.personascope_preemptions


def _scored(request: ScoreRequest, output: Any, start: int, reading: Reading | None) -> Scored:
    plan = request.plan
    if plan is not None and (reading is None or reading.plan != plan.digest):
        raise _without_plan(request.id, plan)
    rows = output.prompt_logprobs[start:]
    found = [row[token] for row, token in zip(rows, request.continuation, strict=True)]
    return Scored(
        id=request.id,
        logprobs=np.array([entry.logprob for entry in found], np.float32),
        greedy=all(entry.rank == 1 for entry in found),
        plan_digest=None if plan is None else plan.digest,
        telemetry=None if plan is None or reading is None else reading.tally.telemetry(plan),
    )


def _drawn_logprobs(sample: Any, tokens: list[int]) -> Float32[np.ndarray, "tokens"]:
    """Return what vLLM says of the tokens it drew, before temperature and nucleus."""
    found = [row[token].logprob for row, token in zip(sample.logprobs, tokens, strict=False)]
    return np.array(found, np.float32)


def _without_plan(name: str, plan: Plan) -> EngineError:
    return EngineError(
        f"request {name!r} ran without its plan {plan.digest[:12]}",
        hint="report this with the vLLM version; the result is not used",
    )


def _check_ran(name: str, output: Any) -> None:
    """Raise on a request that the scheduler refused; the worker has no results of it."""
    sample = output.outputs[0]
    if sample.finish_reason == "error":
        reason = str(sample.stop_reason or "vLLM gave no reason")
        message, _, hint = reason.partition("\n  -> ")
        raise EngineError(f"request {name!r} was refused: {message}", hint=hint)


def load_vllm_engine(
    name: str,
    *,
    dtype: str = "bfloat16",
    transcript: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> VLLMEngine:
    """Find a model by name and start vLLM with it; see `personascope.engines.load_engine`."""
    files = open_files(name, trust_remote_code=trust_remote_code)
    if trust_remote_code:
        options["trust_remote_code"] = True
    engine = VLLMEngine(files, dtype=dtype, **options)
    return engine.with_transcript() if transcript else engine
