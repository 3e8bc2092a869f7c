"""A running row: one request between its first token and its last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from personascope.chat import ReplyFormat, ReplyReader
from personascope.engines._contract import Request, request_seed
from personascope.engines._parts import thinking_limit
from personascope.engines._sampling import uniforms
from personascope.interventions import (
    CapCounters,
    CapCounts,
    Plan,
    TokenSpans,
    acts_on_response,
    plan_for_part,
    reply_parts,
)

MARK_TOKENS = 256
"""Random numbers kept for the marks between the parts of a response."""


@dataclass(slots=True, eq=False)
class Queued:
    """A request with its prompt rendered.

    Attributes:
        request: The request.
        prompt: Its tokens.
        extent: Where the parts of the prompt lie.
        turns: Tokens of each message's content, if the prompt is a conversation.
        reply: How the parts of the response are told apart; None for one that is all answer.
        context: Tokens, prompt and response together, that the model reads at most; None if it does not say.
    """

    request: Request
    prompt: tuple[int, ...]
    extent: TokenSpans
    turns: tuple[tuple[int, int], ...] = ()
    reply: ReplyFormat | None = None
    context: int | None = None

    @property
    def room(self) -> int | None:
        """Tokens that the context leaves to the response; None if the model does not say."""
        return None if self.context is None else self.context - len(self.prompt)

    @property
    def max_tokens(self) -> int:
        """Tokens of a response that is all answer: what was asked for, as far as the context goes."""
        asked = self.request.sampling.max_new_tokens
        return asked if self.room is None else min(asked, self.room)


@dataclass(slots=True, eq=False)
class Row:
    """State of one response while it is being generated.

    Attributes:
        queued: The request and its prompt.
        uniform: Its random numbers, one a token.
        reader: Tells the parts of the response apart; None for one that is all answer.
        tokens: Response tokens drawn so far, the end-of-turn token never among them.
        parts: The part of each of them, as it was known when the token was drawn; empty without a reader.
        fed: How many of them have passed through the model (and so are in the sums).
        projections: For each token fed, the projections on the request's probes.
        counts: What the plan did to the prompt, and to the response before ``since``.
        gate: The plan that the request's watch switched on, if it did.
        gate_from: Number of the first response token on which it acts.
        gate_counts: What both plans did from the gate on, before ``since``.
        since: Number of the response token from which on the counters of the row's slot count.
        ran: What acted on the tokens that those counters counted.
        shown: Tokens that the request's watch has seen.
        logprobs: Log-probability of each token drawn, if the request asks for them.
    """

    queued: Queued
    uniform: np.ndarray
    reader: ReplyReader | None = None
    tokens: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    fed: int = 0
    projections: list[list[float]] = field(default_factory=list)
    counts: CapCounts = field(default_factory=CapCounts)
    gate: Plan | None = None
    gate_from: int = 0
    gate_counts: CapCounts = field(default_factory=CapCounts)
    since: int = 0
    ran: Plan | None = None
    shown: int = 0
    logprobs: list[float] = field(default_factory=list)
    _both: Plan | None = None

    @property
    def acting(self) -> Plan | None:
        """What acts on the response: the plan, if it does, and the gate's."""
        if self.gate is not None:
            return self._both
        plan = self.queued.request.plan
        return plan if plan is not None and acts_on_response(plan) else None

    @property
    def plan(self) -> Plan | None:
        """What acts on the token that is fed next."""
        plan = self.acting
        if plan is None or not reply_parts(plan):
            return plan
        return plan_for_part(plan, self.part)

    @property
    def part(self) -> str:
        """The part of the token that is fed next."""
        return self.parts[min(self.fed, len(self.parts) - 1)] if self.parts else "answer"

    @property
    def counted(self) -> bool:
        """Whether the token that is fed next is one of those that the request reads."""
        return self.queued.request.tokens in ("response", self.part)

    def counted_at(self, place: int) -> bool:
        """Whether a response token was taken for one of those that the request reads when it was fed."""
        return self.queued.request.tokens in ("response", self.parts[place] if self.parts else "answer")

    @property
    def just_counted(self) -> bool:
        """Whether the token that was fed last is one of those that the request reads, as far as is known."""
        return self.counted_at(self.fed - 1)

    def take(self, token: int) -> None:
        """Take a token that was drawn."""
        self.tokens.append(token)
        if self.reader is not None:
            self.parts.append(self.reader.feed(token))

    def newest(self, counters: CapCounters, place: int) -> CapCounts:
        """Return what the counters of the row's slot hold."""
        return counters.counts(place, 0 if self.ran is None else self.fed - self.since)

    def fold(self, counters: CapCounters, place: int) -> None:
        """Take what the counters of the row's slot hold, and begin them at zero."""
        newest = self.newest(counters, place)
        counters.clear(place)
        if self.gate is not None:
            self.gate_counts = self.gate_counts + newest
        self.counts = self.counts + newest
        self.since = self.fed

    def open_gate(self, gate: Plan) -> None:
        """Let a plan act from the next token on, after the request's own."""
        plan = self.acting
        self.gate, self.gate_from = gate, self.fed
        # What acts on the prompt alone has nothing to do any more.
        self._both = gate if plan is None else plan + gate

    @property
    def position(self) -> int:
        """Position of the token that is fed next."""
        return len(self.queued.prompt) + self.fed

    @property
    def full(self) -> bool:
        """Whether the token limit is reached: what is left is to feed the last token."""
        sampling, room = self.queued.request.sampling, self.queued.room
        reader = self.reader
        if reader is None:
            return len(self.tokens) >= self.queued.max_tokens
        answering = reader.part in ("answer", "tool_calls")
        return (
            reader.answer_tokens >= sampling.max_new_tokens
            or (not answering and reader.thinking_tokens >= thinking_limit(sampling))
            or len(self.tokens) >= (len(self.uniform) if room is None else min(len(self.uniform), room))
        )

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must be fed too."""
        request = self.queued.request
        return request.capture is not None or bool(request.probes)


def new_row(queued: Queued, counts: CapCounts) -> Row:
    """Begin a response; its random numbers depend on the run's seed and the request's id alone."""
    request = queued.request
    seed = request_seed(request.seed, request.id)
    longest = request.sampling.max_new_tokens
    reader = None
    if queued.reply is not None:
        reader = queued.reply.reader()
        # Marks, and the white space beside them, are neither of the thinking nor of the answer.
        longest = 2 * (longest + thinking_limit(request.sampling)) + MARK_TOKENS
    return Row(queued, uniforms(seed, longest), reader, counts=counts)
