"""The contract of engines: requests, completions, and the protocol between them.

An engine takes an iterable of [Request][personascope.engines.Request] and yields a
[Completion][personascope.engines.Completion] for each, in completion order, holding a bounded
number of them. It raises on a request that it cannot honour, and never ignores a part of one.
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
from personascope.text import brief

FinishReason = Literal["stop", "length", "alarm"]

Watch = Callable[[int, Mapping[str, float]], "Plan | Literal['stop'] | None"]
"""Function called with each selected response token (its index, probe -> projection) after its forward pass.

It returns None to continue; "stop" to end the response after this token (``finish_reason`` "alarm"); or a
plan that acts on every token of the response from the next one on, in addition to the request's own (a
gate). If a response is generated anew because memory ran out, it is called again from token 0 on.
"""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. The defaults are the paper's (section 2.1 of arXiv 2601.10387).

    Attributes:
        temperature: Sampling temperature; 0 is greedy decoding.
        top_p: Nucleus mass in (0, 1].
        max_new_tokens: Maximum number of response tokens, the end-of-turn token not counted; for a model
            that thinks before it answers, of answer tokens.
        min_new_tokens: Number of response tokens before which no end-of-turn token is sampled.
        stop: Texts before which the response ends. They are not part of it. If one begins inside a token,
            that token is not counted, although its first characters are in the text.
        max_thinking_tokens: Maximum number of tokens before a model that thinks begins its answer; None is
            four times ``max_new_tokens``. A response that is still thinking then ends without an answer.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 512
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    max_thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """Layers whose residual stream is pooled (mean over the selected tokens, float32).

    Attributes:
        layers: 0-based block indices, where l is the residual stream after block l; None for all.
        norms: Whether to also compute the mean of the tokens' norms (only in ``observe``).
    """

    layers: tuple[int, ...] | None = None
    norms: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A named direction at one layer, on which every selected token is projected.

    Attributes:
        name: Key of the result in ``Completion.projections``.
        layer: 0-based block index.
        direction: Direction in the residual stream, not normalised by the engine.
    """

    name: str
    layer: int
    direction: Float32[np.ndarray, "d"]

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One response to generate.

    Attributes:
        id: Id that is unique within a run; with ``seed`` it determines the random draws, whatever the batch.
        prompt: Conversation, which is rendered with the model's chat template plus the generation
            prompt, or token ids.
        sampling: Sampling parameters.
        plan: Intervention to apply, or None.
        capture: Layers to pool, or None for none.
        probes: Directions for per-token projections.
        seed: Random seed of the run.
        watch: Callback that gets the projections of every token, and may end the response or switch a plan
            on; None for none. vLLM takes one that says in advance what it will do (`DeclaredWatch`).
        logprobs: Whether to return the log-probability of every response token under the model as it ran, at
            temperature 1 and without the nucleus, as ``score`` does.
        tokens: Selection of the tokens to pool and project: "answer", "thinking", "tool_calls", "response"
            (all that the model wrote), "prompt", "all", or "turn:N" for message N of the prompt.
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
        token: Index of the first response token on which it acts.
        plan_digest: Digest of the plan.
        cap_stats: Cap statistics from that token on, including the request's own plan if there is one.
    """

    token: int
    plan_digest: str
    cap_stats: CapStats


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """Result of a request.

    Attributes:
        id: Id of the request.
        text: Text of the answer without special tokens, reasoning and tool calls.
        token_ids: Token ids of the response, without the end-of-turn token.
        finish_reason: "stop" for an end-of-turn token or a stop text, "length" for the limit, "alarm" if the
            request's watch ended the response.
        prompt_tokens: Number of tokens of the rendered prompt.
        pooled: Mean residual stream over the tokens that the request selects, [layers, d] float32 in the
            order of ``Capture.layers``; None if nothing was captured or there is no such token.
        token_count: Number of tokens in that mean (the last sampled token is fed once more so that it
            counts too).
        projections: Probe name -> projection of each of those tokens, [tokens] float32.
        plan_digest: Digest of the request's plan, or None.
        cap_stats: Cap statistics of the request's plan, or None.
        gate: Plan that the request's watch switched on, or None.
        logprobs: Natural log-probability of each response token, [tokens] float32; None if not requested.
        spans: Parts of the response in ``token_ids``; empty if it is all answer.
        reasoning: Text of the reasoning.
        tool_calls: Text of the tool calls.
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

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)

    @property
    def left_thinking(self) -> bool:
        """Whether the response is not only thinking: False if it ended before an answer or a tool call."""
        parts = {span.part for span in self.spans}
        return "thinking" not in parts or bool(parts - {"thinking"})


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """A given continuation to compute the probability of.

    Attributes:
        id: Id that is unique within a run.
        prompt: Conversation or token ids, as in `Request`.
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
        id: Id of the request.
        logprobs: Natural log-probability of each token of the continuation, [tokens] float32.
        greedy: Whether every token of the continuation is the most likely one.
        plan_digest: Digest of the request's plan, or None.
        cap_stats: Cap statistics of the request's plan, or None.
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
        index: Index of the message in the conversation.
        role: Role of the message.
        pooled: Mean over the turn's selected tokens, [layers, d] float32; None if there are none.
        token_count: Number of tokens in that mean.
        projections: Probe name -> projection of each selected token, [tokens] float32.
        norms: Mean norm of the turn's selected tokens at each layer, [layers] float32; None if not requested.
    """

    index: int
    role: str
    pooled: Float32[np.ndarray, "layers d"] | None
    token_count: int
    projections: Mapping[str, Float32[np.ndarray, "tokens"]] = field(default_factory=dict)
    norms: Float32[np.ndarray, "layers"] | None = None

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Identity of an engine and its model, which maps store.

    ``context`` is the context length of the model in tokens, prompt and response together; None if it is
    unknown. ``chat_options`` are the requested options of the chat template, empty for the defaults.
    ``chat_date`` is the date that the template writes, "" if it writes none.
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
        """Values that must be unchanged for a run to be resumed: model, revision, dtype, chat format."""
        given = {
            "id": self.model_id,
            "revision": self.model_revision,
            "dtype": self.dtype,
            "chat": self.chat_digest,
        }
        return given | self.chat_record

    @property
    def chat_record(self) -> dict[str, Any]:
        """Chat options in a run's identity, besides the template's digest; empty for the defaults.

        The date is left out: it is stored with the run, and a run resumed on another day uses it again.
        """
        return {"chat_options": dict(self.chat_options)} if self.chat_options else {}


@runtime_checkable
class Engine(Protocol):
    """Interface that generates responses, pools activations during the forward pass, and applies plans."""

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
        """Pool the activations of every turn of an existing conversation.

        To a plan, everything before the last assistant turn is the prompt, and the rest the response.
        ``tokens`` selects the tokens of each turn: its content ("answer"), the reasoning before it
        ("thinking"), both ("response", "all"), only turns that are not the model's ("prompt"), or one turn
        ("turn:N").
        """
        ...

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-probabilities of given continuations, in any order.

        Raises:
            EngineError: If a request cannot be honoured as it stands.
        """
        ...

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Tokenise a text; with ``special``, include the special tokens that the tokenizer adds."""
        ...

    def decode(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, without special tokens."""
        ...

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the number of tokens of the rendered prompt."""
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
