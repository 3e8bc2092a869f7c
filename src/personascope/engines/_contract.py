"""The contract between whoever wants text with activations and whoever makes it.

An engine takes an iterable of [Request][personascope.engines.Request] and yields a
[Completion][personascope.engines.Completion] for each, in completion order, holding a bounded
number of them. It raises on a request that it cannot honour; it never runs it plain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from personascope.chat import Conversation, Message, ReplySpan
from personascope.interventions import CapStats, Plan

FinishReason = Literal["stop", "length", "alarm"]

Watch = Callable[[int, Mapping[str, float]], "Plan | Literal['stop'] | None"]
"""Sees each response token (its number, probe name -> projection) once it has passed through the model.

Returns None to go on; "stop" to end the response after this token (``finish_reason`` "alarm"); or a
plan that acts on every token of the response from the next one on, beside the request's own (a gate).
A response that is generated anew, because memory ran out, is shown again from token 0 on.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. The defaults are the paper's (section 2.1 of arXiv 2601.10387).

    Attributes:
        temperature: 0 means greedy.
        top_p: Nucleus mass in (0, 1].
        max_new_tokens: Response tokens at most, the end-of-turn token not counted; of a model that thinks
            before it answers, tokens of the answer.
        min_new_tokens: End-of-turn tokens are not drawn before this many response tokens.
        stop: Texts before which the response ends. They are not part of it; where one begins inside a
            token, that token is not counted, though its first characters are in the text.
        max_thinking_tokens: Tokens at most before a model that thinks begins its answer; None is four times
            ``max_new_tokens``. A response that is still thinking then ends without an answer.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 512
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    max_thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """Which residual streams to pool (mean over the response's tokens, float32).

    Attributes:
        layers: 0-based block indices, index l meaning the residual stream after block l;
            None for all of them.
        norms: Also take the mean of the tokens' norms (``observe`` alone does).
    """

    layers: tuple[int, ...] | None = None
    norms: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A named direction at one layer, onto which every response token is projected.

    Attributes:
        name: Key of the result in ``Completion.projections``.
        layer: 0-based block index.
        direction: Used as given; normalise it first if the projection shall be on a unit vector.
    """

    name: str
    layer: int
    direction: Float32[np.ndarray, "d"]


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One response to generate.

    Attributes:
        id: Unique within a run; with ``seed`` it determines the random draws, whatever the batch.
        prompt: A conversation, rendered with the model's chat template plus the generation
            prompt, or ready token ids.
        sampling: How tokens are drawn.
        plan: Intervention to apply, or None.
        capture: What to pool, or None for text only.
        probes: Directions for per-token projections.
        seed: Seed of the run.
        watch: Called with the projections of every token; may end the response or switch a plan on.
        logprobs: Also return the log-probability of every response token under the model as it ran, at
            temperature 1 and without the nucleus: what ``score`` would say of the same tokens.
        tokens: Which tokens are pooled and projected: "answer", "thinking", "tool_calls", "response" (all
            that the model wrote), "prompt", "all", or "turn:N" for message N of the prompt.
    """

    id: str
    prompt: Conversation | tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    plan: Plan | None = None
    capture: Capture | None = None
    probes: tuple[Probe, ...] = ()
    seed: int = 0
    watch: Watch | None = None
    logprobs: bool = False
    tokens: str = "answer"


@dataclass(frozen=True, slots=True, eq=False)
class TriggeredPlan:
    """A plan that a watch switched on inside a response.

    Attributes:
        token: Number of the first response token on which it acts.
        plan_digest: Digest of the plan.
        cap_stats: Counts of what it did from there on, together with the request's own plan, if there is one.
    """

    token: int
    plan_digest: str
    cap_stats: CapStats


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """What came of a request.

    Attributes:
        id: The request's id.
        text: The answer, special tokens removed: what the model says, without its reasoning and tool calls.
        token_ids: The response's tokens, without the end-of-turn token.
        finish_reason: "stop" for an end-of-turn token, "length" for the limit, "alarm" where the
            request's watch ended the response.
        prompt_tokens: Number of tokens of the rendered prompt.
        pooled: Mean residual stream over the tokens that the request selects, [layers, d] float32 in the
            order of ``Capture.layers``; None if nothing was captured or there is no such token.
        token_count: Number of tokens in that mean (the last sampled token is fed once more so that it
            counts too).
        projections: Probe name -> projection of each of those tokens, [tokens] float32.
        plan_digest: Digest of the plan that was applied, None for a plain run.
        cap_stats: What the plan did, None for a plain run.
        gate: The plan that the request's watch switched on, None if it did not.
        logprobs: Natural log-probability of each response token, [tokens] float32; None if not asked for.
        spans: The parts of the response, in ``token_ids``; empty for a model whose responses have no parts.
        reasoning: The text of its reasoning.
        tool_calls: The text of its tool calls.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    pooled: Float32[np.ndarray, "layers d"] | None = None
    token_count: int = 0
    projections: Mapping[str, Float32[np.ndarray, "tokens"]] = field(default_factory=dict)
    plan_digest: str | None = None
    cap_stats: CapStats | None = None
    gate: TriggeredPlan | None = None
    logprobs: Float32[np.ndarray, "tokens"] | None = None
    spans: tuple[ReplySpan, ...] = ()
    reasoning: str = ""
    tool_calls: str = ""

    @property
    def left_thinking(self) -> bool:
        """Whether the model got to an answer or a tool call; False if it ended while it was thinking."""
        parts = {span.part for span in self.spans}
        return "thinking" not in parts or bool(parts - {"thinking"})


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """A given continuation, whose probability is asked for.

    Attributes:
        id: Unique within a run.
        prompt: As in `Request`.
        continuation: Token ids that follow the prompt; at least one.
        plan: Intervention to apply, or None. The continuation counts as the response.
    """

    id: str
    prompt: Conversation | tuple[int, ...]
    continuation: tuple[int, ...]
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The probability of a given continuation.

    Attributes:
        id: The request's id.
        logprobs: Natural log-probability of each token of the continuation, [tokens] float32.
        greedy: Whether every token of it is the most likely one.
        plan_digest: Digest of the plan that was applied, None for a plain run.
        cap_stats: What the plan did, None for a plain run.
    """

    id: str
    logprobs: Float32[np.ndarray, "tokens"]
    greedy: bool
    plan_digest: str | None = None
    cap_stats: CapStats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TurnActivations:
    """Pooled activations of one turn of an existing conversation.

    Attributes:
        index: Position of the message in the conversation.
        role: The message's role.
        pooled: Mean over the turn's content tokens, [layers, d] float32; None for an empty turn.
        token_count: Number of tokens in that mean.
        projections: Probe name -> projection of each content token, [tokens] float32.
        norms: Mean norm of the turn's content tokens at each layer, [layers] float32, if asked for.
    """

    index: int
    role: str
    pooled: Float32[np.ndarray, "layers d"] | None
    token_count: int
    projections: Mapping[str, Float32[np.ndarray, "tokens"]] = field(default_factory=dict)
    norms: Float32[np.ndarray, "layers"] | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a map must remember of the engine and model that it came from.

    ``context`` is the number of tokens, prompt and response together, that it reads at most; None where
    it does not say. ``chat_options`` are those of the chat template that were asked for, empty for the
    defaults, and ``chat_date`` the date that the template writes, "" for one that writes none.
    """

    engine: str
    model_id: str
    model_revision: str
    n_layers: int
    d_model: int
    dtype: str
    chat_digest: str
    versions: Mapping[str, str] = field(default_factory=dict)
    context: int | None = None
    chat_options: Mapping[str, Any] = field(default_factory=dict)
    chat_date: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be taken up again: model, revision, dtype, chat format."""
        given = {
            "id": self.model_id,
            "revision": self.model_revision,
            "dtype": self.dtype,
            "chat": self.chat_digest,
        }
        return given | self.chat_record

    @property
    def chat_record(self) -> dict[str, Any]:
        """What a run's identity says of the chat template beside its digest; empty where nothing was asked.

        The date is not in it: it is kept with the run, which goes on with it on another day.
        """
        return {"chat_options": dict(self.chat_options)} if self.chat_options else {}


@runtime_checkable
class Engine(Protocol):
    """Generates, pools activations in place, and applies plans."""

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model behind the engine."""
        ...

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded in completion order.

        Raises:
            EngineError: If a request cannot be honoured as it stands.
        """
        ...

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of a conversation that already exists.

        With a plan, what precedes the last assistant turn is the prompt, and the rest the response.
        ``tokens`` says which tokens of each turn are read: what it says ("answer"), the reasoning before it
        ("thinking"), both ("response", "all"), the turns that are not the model's ("prompt"), or one of them
        ("turn:N").
        """
        ...

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Return the log-probabilities of given continuations, in any order.

        Raises:
            EngineError: If a request cannot be honoured as it stands.
        """
        ...

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Return the tokens of a text; with ``special``, also those that the tokenizer puts around it."""
        ...

    def decode(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, special ones left out."""
        ...

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the length of the rendered prompt, for planning."""
        ...


def request_seed(seed: int, request_id: str) -> int:
    """Derive the 64-bit seed of one request from the run's seed and the request's id."""
    digest = hashlib.blake2b(f"{seed}\x00{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


__all__ = [
    "Capture",
    "Completion",
    "Conversation",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "Message",
    "Probe",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "TriggeredPlan",
    "TurnActivations",
    "Watch",
    "request_seed",
]
