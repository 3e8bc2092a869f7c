"""Translate requests into the plugin's specs and vLLM's sampling parameters."""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from personascope.chat import ReplyFormat
from personascope.engines._capabilities import unsupported
from personascope.engines._contract import Capture, Probe, Request, ScoreRequest, request_seed
from personascope.engines._parts import length_limit
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._spec import DRAW, Spec
from personascope.interventions import Plan


@dataclass(slots=True, eq=False)
class InFlightRequest:
    """A request inside vLLM.

    Attributes:
        request: The request as it was given.
        prompt: Tokens of its rendered prompt.
        spec: Spec for the plugin; None for a plain request.
        reply: Format of the response's parts; None if it is all answer.
    """

    request: Request
    prompt: tuple[int, ...]
    spec: Spec | None
    reply: ReplyFormat | None = None

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must also pass through the model."""
        return is_read(self.request)

    @property
    def limit(self) -> int:
        """Maximum number of response tokens, including thinking if the model thinks."""
        return length_limit(self.reply, self.request.sampling)


def is_read(request: Request) -> bool:
    """Return whether activations of a request are read."""
    return request.capture is not None or bool(request.probes)


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

    def of_request(
        self, key: str, request: Request, prompt: Sequence[int], turns: tuple[int, ...], limit: int
    ) -> Spec | None:
        """Return the spec of a request for at most ``limit`` tokens; None if it does not need the plugin."""
        if not is_read(request) and request.plan is None:
            return None
        # One more token than requested is drawn, so that the last one passes through the model.
        span = (len(prompt), len(prompt) + limit)
        return Spec(
            key=key,
            plan=self._plan(request.plan),
            turns=turns,
            spans=(span,),
            pool=request.capture is not None,
            layers=self._pooled_layers(request.capture),
            probes=self._probes(request.probes),
        )

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
        """
        return Spec(
            key=key,
            plan=self._plan(plan),
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
    request: Request,
    spec: Spec | None,
    *,
    limit: int,
    eos: Iterable[int],
    stops: Sequence[str],
    draws: bool,
    cpu: bool,
) -> Any:
    """Return vLLM's sampling parameters of a request that generates.

    Args:
        request: Request to generate.
        spec: Spec of the request, or None.
        limit: Maximum number of response tokens.
        eos: Tokens that end a response.
        stops: Texts that end the response.
        draws: Whether our logits processor draws the tokens, instead of vLLM's sampler.
        cpu: Whether vLLM runs on a CPU.

    Raises:
        EngineError: If vLLM's sampler would sample the request on a CPU, where it takes no seed.
    """
    from vllm import SamplingParams

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
        max_tokens=limit + is_read(request),
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
