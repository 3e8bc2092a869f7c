"""A running row: the state of one request from its first token to its last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from personascope.chat import ReplyFormat, ReplyReader
from personascope.engines._contract import Request, request_seed
from personascope.engines._gate import GateWatch
from personascope.engines._parts import longest_marked, thinking_limit
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


@dataclass(slots=True, eq=False)
class Queued:
    """A request with its prompt rendered.

    Attributes:
        request: Request as given.
        prompt: Token ids of the prompt.
        extent: Positions of the parts of the prompt.
        turns: Token span of each message's content, if the prompt is a conversation.
        reply: Format of the response's parts; None if it is all answer.
        context: Context length of the model in tokens, prompt and response together; None if unknown.
    """

    request: Request
    prompt: tuple[int, ...]
    extent: TokenSpans
    turns: tuple[tuple[int, int], ...] = ()
    reply: ReplyFormat | None = None
    context: int | None = None

    @property
    def room(self) -> int | None:
        """Number of tokens that the context leaves for the response; None if unknown."""
        return None if self.context is None else self.context - len(self.prompt)

    @property
    def max_tokens(self) -> int:
        """Maximum length of a response that is all answer: the requested one, limited by the context."""
        asked = self.request.sampling.max_new_tokens
        return asked if self.room is None else min(asked, self.room)


@dataclass(slots=True, eq=False)
class Row:
    """State of one response while it is being generated.

    Attributes:
        queued: Request with its prompt.
        uniform: Uniform random numbers of the request, one for each token.
        reader: Reader of the response's parts; None if it is all answer.
        tokens: Response tokens drawn so far, without the end-of-turn token.
        parts: Part of each of them, as known when the token was drawn; empty without a reader.
        fed: Number of them that have passed through the model.
        projections: Projections on the request's probes, for each token fed.
        before: The same before the plan's operations at the probes' layers; empty if they are not read.
        counts: Cap counts on the prompt, and on the response before ``since``.
        gate: Plan that the request's watch switched on, or None.
        gate_from: Index of the first response token on which the gate acts.
        gate_counts: Cap counts of both plans from the gate on, before ``since``.
        since: Index of the first response token that the counters of the row's slot include.
        ran: Plan that acted on the tokens in those counters.
        shown: Number of tokens that the request's watch has seen.
        logprobs: Log-probability of each token drawn, if requested.
    """

    queued: Queued
    uniform: np.ndarray
    reader: ReplyReader | None = None
    tokens: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    fed: int = 0
    projections: list[list[float]] = field(default_factory=list)
    before: list[list[float]] = field(default_factory=list)
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
        """Plan on the response: the request's, if it acts there, combined with the gate; or None."""
        if self.gate is not None:
            return self._both
        plan = self.queued.request.plan
        return plan if plan is not None and acts_on_response(plan) else None

    @property
    def plan(self) -> Plan | None:
        """Plan on the token that is fed next."""
        plan = self.acting
        if plan is None or not reply_parts(plan):
            return plan
        here = plan_for_part(plan, self.part)
        return here if here is not None and acts_on_response(here) else None

    @property
    def part(self) -> str:
        """Part of the token that is fed next."""
        return self.parts[min(self.fed, len(self.parts) - 1)] if self.parts else "answer"

    @property
    def counted(self) -> bool:
        """Whether the request selects the token that is fed next."""
        return self.queued.request.tokens in ("response", self.part)

    def counted_at(self, place: int) -> bool:
        """Return whether a response token was counted as selected by the request when it was fed."""
        return self.queued.request.tokens in ("response", self.part_at(place))

    def part_at(self, place: int) -> str:
        """Return the part of a response token, as known when it was drawn."""
        return self.parts[place] if self.parts else "answer"

    @property
    def just_heard(self) -> bool:
        """Whether the request's watch reads the token that was fed last."""
        request = self.queued.request
        if isinstance(request.watch, GateWatch):
            return request.watch.tokens in ("response", self.part_at(self.fed - 1))
        return self.counted_at(self.fed - 1)

    def take(self, token: int) -> None:
        """Append a token that was drawn."""
        self.tokens.append(token)
        if self.reader is not None:
            self.parts.append(self.reader.feed(token))

    def newest(self, counters: CapCounters, place: int) -> CapCounts:
        """Return the counts in the counters of the row's slot."""
        return counters.counts(place, 0 if self.ran is None else self.fed - self.since)

    def fold(self, counters: CapCounters, place: int) -> None:
        """Add the counts of the row's slot to the row, and reset the slot's counters."""
        newest = self.newest(counters, place)
        counters.clear(place)
        if self.gate is not None:
            self.gate_counts = self.gate_counts + newest
        self.counts = self.counts + newest
        self.since = self.fed

    def open_gate(self, gate: Plan) -> None:
        """Make a plan act from the next token on, after the request's own."""
        plan = self.acting
        self.gate, self.gate_from = gate, self.fed
        # A plan on the prompt alone has no effect any more.
        self._both = gate if plan is None else plan + gate

    @property
    def position(self) -> int:
        """Position of the token that is fed next."""
        return len(self.queued.prompt) + self.fed

    @property
    def full(self) -> bool:
        """Whether the token limit is reached, so that only the last token remains to be fed."""
        sampling, room = self.queued.request.sampling, self.queued.room
        reader = self.reader
        if reader is None:
            return len(self.tokens) >= self.queued.max_tokens
        return reader.is_full(answer=sampling.max_new_tokens, thinking=thinking_limit(sampling)) or len(
            self.tokens
        ) >= (len(self.uniform) if room is None else min(len(self.uniform), room))

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must also be fed."""
        request = self.queued.request
        return request.capture is not None or bool(request.probes)


def new_row(queued: Queued, counts: CapCounts) -> Row:
    """Begin a response, whose random numbers depend only on the run's seed and the request's id."""
    request = queued.request
    seed = request_seed(request.seed, request.id)
    longest = request.sampling.max_new_tokens
    reader = None
    if queued.reply is not None:
        reader = queued.reply.reader()
        # Marks and the white space around them belong neither to the thinking nor to the answer.
        longest = longest_marked(request.sampling)
    return Row(queued, uniforms(seed, longest), reader, counts=counts)
