"""Translate requests into the plugin's specs and vLLM's sampling parameters."""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.chat import PARTS, ReplyFormat
from personascope.engines._capabilities import unsupported
from personascope.engines._contract import Capture, Probe, Request, ScoreRequest, request_seed
from personascope.engines._gate import DeclaredWatch, Gate
from personascope.engines._parts import length_limit, longest_marked, thinking_limit
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._reply_spec import GateSpec, ReplySpec
from personascope.engines._vllm.request._spec import DRAW, Spec
from personascope.interventions import Plan, reply_parts


@dataclass(frozen=True, slots=True, eq=False)
class RenderedRequest:
    """A request whose prompt has been rendered.

    Attributes:
        request: The request as it was given.
        prompt: Tokens of its prompt.
        turns: Token span of each message's content; empty if the prompt is token ids.
        reply: Format of the response's parts; None if it is all answer.
        context: Context length of the model in tokens, prompt and response together; None if unknown.
    """

    request: Request
    prompt: tuple[int, ...]
    turns: tuple[tuple[int, int], ...] = ()
    reply: ReplyFormat | None = None
    context: int | None = None

    @property
    def turn_starts(self) -> tuple[int, ...]:
        """First position of each message's content."""
        return tuple(start for start, _ in self.turns)

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must also pass through the model."""
        return self.request.capture is not None or bool(self.request.probes)

    @property
    def reads_response(self) -> bool:
        """Whether tokens of the response alone are read, so that they can be read as they pass."""
        return self.watched and self.request.tokens in ("response", *PARTS)

    @property
    def limit(self) -> int:
        """Maximum number of response tokens, including thinking and marks if the model thinks."""
        least = length_limit(self.reply, self.request.sampling)
        if self.reply_spec() is None:
            return least
        # The worker ends the response at the limits of its parts.
        room = least if self.context is None else self.context - len(self.prompt) - self.watched
        return max(least, min(longest_marked(self.request.sampling), room))

    @property
    def gate(self) -> Gate | None:
        """What the request's watch switches on in this response, or None."""
        watch = self.request.watch
        return watch.gate() if isinstance(watch, DeclaredWatch) and self.reads_response else None

    def reply_spec(self) -> ReplySpec | None:
        """Return how the worker tells the response's parts apart; None if nothing depends on them there."""
        reply, request = self.reply, self.request
        if reply is None:
            return None
        by_part = request.plan is not None and bool(reply_parts(request.plan))
        thinks = reply.marks.thinks and not reply.closed
        if not by_part and request.watch is None and not thinks:
            return None
        return ReplySpec.of(
            reply,
            answer_tokens=request.sampling.max_new_tokens,
            thinking_tokens=thinking_limit(request.sampling),
            last=self.watched,
        )


@dataclass(frozen=True, slots=True, eq=False)
class InFlightRequest:
    """A request inside vLLM.

    Attributes:
        rendered: The request and its prompt.
        spec: Spec for the plugin; None for a plain request.
        gate: What its watch switches on, or None.
    """

    rendered: RenderedRequest
    spec: Spec | None
    gate: Gate | None = None

    @property
    def request(self) -> Request:
        """The request as it was given."""
        return self.rendered.request

    @property
    def switched(self) -> Plan | None:
        """Plan that its watch switches on, or None."""
        return self.gate.action if self.gate is not None and self.gate.action != "stop" else None

    @property
    def prompt(self) -> tuple[int, ...]:
        """Tokens of the prompt."""
        return self.rendered.prompt


class SpecBuilder:
    """Builder of the specs of requests, which also puts their plans and probes into the store.

    Args:
        store: Store of plans and probes, which the scheduler and the workers read.
        n_layers: Number of decoder blocks.
        layers: Layers that are instrumented; None for all.
    """

    def __init__(self, store: PlanStore, n_layers: int, layers: frozenset[int] | None) -> None:
        """Set the store and the instrumented layers."""
        self.store, self.n_layers, self.layers = store, n_layers, layers

    def of_request(self, key: str, rendered: RenderedRequest, gate: Gate | None) -> Spec | None:
        """Return the spec of a request that generates; None if it does not need the plugin."""
        request = rendered.request
        reads = rendered.reads_response
        reply = rendered.reply_spec()
        if not reads and request.plan is None and reply is None:
            return None
        # One more token than requested is drawn, so that the last one passes through the model.
        start = len(rendered.prompt)
        probes = self._probes(request.probes) if reads else None
        return Spec(
            key=key,
            plan=self._plan(request.plan),
            turns=rendered.turn_starts,
            spans=((start, start + rendered.limit),),
            pool=reads and request.capture is not None,
            layers=self._pooled_layers(request.capture) if reads else None,
            probes=probes,
            reply=reply,
            select=request.tokens if reply is not None and reads else "response",
            gate=None
            if gate is None
            else self._gate(gate, request.tokens if reply is not None else "response"),
        )

    def of_reading(
        self, key: str, rendered: RenderedRequest, spans: Sequence[tuple[int, int]], gate: GateSpec | None
    ) -> Spec:
        """Return the spec that reads spans of a generated response, which is fed again behind its prompt.

        Args:
            key: Name under which the results are fetched.
            rendered: The request.
            spans: Positions to read, [start, stop) each.
            gate: Gate that opened, with its position; None if none did.
        """
        request, reply = rendered.request, rendered.reply_spec()
        return Spec(
            key=key,
            plan=self._plan(request.plan),
            response=len(rendered.prompt),
            turns=rendered.turn_starts,
            spans=tuple(spans),
            pool=request.capture is not None,
            layers=self._pooled_layers(request.capture),
            probes=self._probes(request.probes),
            reply=None if reply is None else reply.marks,
            gate=gate,
        )

    def _gate(self, gate: Gate, tokens: str) -> GateSpec:
        plan = None if gate.action == "stop" else self.store.put(gate.action)
        return GateSpec(plan, gate.probe, tokens, gate.alarm)

    def of_score(self, key: str, request: ScoreRequest, prompt: int, turns: tuple[int, ...]) -> Spec | None:
        """Return the spec of a continuation that begins at position ``prompt``; None without a plan."""
        if request.plan is None:
            return None
        return Spec(key, self._plan(request.plan), response=prompt, turns=turns)

    def of_conversation(
        self,
        key: str,
        *,
        spans: Sequence[tuple[int, int]],
        response: int,
        turns: tuple[int, ...],
        capture: Capture | None,
        probes: tuple[Probe, ...],
        plan: Plan | None,
        parts: Sequence[tuple[int, str]] = (),
    ) -> Spec:
        """Return the spec that reads spans of an existing conversation.

        Args:
            key: Name under which the results are fetched.
            spans: Positions of each turn to read, [start, stop).
            response: Position at which the last reply begins.
            turns: Position of the first content token of each message.
            capture: Layers to pool, or None.
            probes: Directions on which tokens are projected.
            plan: Plan to apply, or None.
            parts: First position and name of each part of the conversation.
        """
        return Spec(
            key=key,
            plan=self._plan(plan),
            # Of an empty part only the next one's beginning counts.
            parts=tuple(sorted(dict(parts).items())) if plan is not None and reply_parts(plan) else (),
            response=response,
            turns=turns,
            spans=tuple(spans),
            pool=capture is not None and bool(spans),
            layers=self._pooled_layers(capture),
            norms=capture is not None and capture.norms and bool(spans),
            probes=self._probes(probes),
        )

    def _plan(self, plan: Plan | None) -> str | None:
        return None if plan is None else self.store.put(plan)

    def _probes(self, probes: tuple[Probe, ...]) -> str | None:
        return self.store.put(ProbeSet.of(probes)) if probes else None

    def _pooled_layers(self, capture: Capture | None) -> tuple[int, ...] | None:
        """Return the pooled layers of a spec for a capture; None for all instrumented ones or no capture."""
        if capture is None or capture.layers is not None or self.layers is None:
            return None if capture is None else capture.layers
        # All layers of the model are requested; the scheduler refuses those that are not instrumented.
        return tuple(range(self.n_layers))


def sampling_params(
    rendered: RenderedRequest,
    spec: Spec | None,
    *,
    eos: Iterable[int],
    stops: Sequence[str],
    draws: bool,
    cpu: bool,
) -> Any:
    """Return vLLM's sampling parameters of a request that generates.

    Args:
        rendered: Request to generate.
        spec: Spec of the request, or None.
        eos: Tokens that end a response.
        stops: Texts that end the response.
        draws: Whether our logits processor draws the tokens, instead of vLLM's sampler.
        cpu: Whether vLLM runs on a CPU.

    Raises:
        EngineError: If vLLM's sampler would sample the request on a CPU, where it takes no seed.
    """
    from vllm import SamplingParams

    request = rendered.request
    sampling = request.sampling
    extra = {} if spec is None else spec.extra_args()
    seed = request_seed(request.seed, request.id)
    own: dict[str, Any] = {"top_p": sampling.top_p, "seed": seed >> 1}
    if draws and sampling.temperature > 0:
        own = {}
        extra[DRAW] = {"seed": seed, "top_p": sampling.top_p}
    elif cpu and sampling.temperature > 0:
        raise unsupported("vllm", "vllm_sampler_cpu", f"request {request.id!r} asks for")
    return SamplingParams(
        temperature=sampling.temperature,
        max_tokens=rendered.limit + rendered.watched,
        min_tokens=sampling.min_new_tokens,
        stop_token_ids=sorted(eos),
        stop=list(stops) or None,
        include_stop_str_in_output=bool(stops),
        detokenize=bool(stops),
        skip_special_tokens=False,
        logprobs=0 if request.logprobs else None,
        extra_args=extra or None,
        **own,
    )


def prefill_params(spec: Spec | None, *, logprobs: bool = False) -> Any:
    """Return vLLM's sampling parameters for existing tokens: they pass once, and one drawn token is ignored.

    Args:
        spec: Spec for the plugin, or None.
        logprobs: Whether to return the log-probabilities of the tokens. If not, all tokens pass through the
            model, also those whose keys and values are in the prefix cache.
    """
    from vllm import SamplingParams

    how: dict[str, Any] = {"prompt_logprobs": 1} if logprobs else {"skip_reading_prefix_cache": True}
    return SamplingParams(
        temperature=0,
        max_tokens=1,
        detokenize=False,
        extra_args=None if spec is None else spec.extra_args(),
        **how,
    )
