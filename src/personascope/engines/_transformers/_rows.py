"""A running row: one request between its first token and its last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from personascope.engines._contract import Request, request_seed
from personascope.engines._sampling import uniforms
from personascope.interventions import CapCounts, Plan, TokenSpans, acts_on_response


@dataclass(slots=True, eq=False)
class Queued:
    """A request with its prompt rendered.

    Attributes:
        request: The request.
        prompt: Its tokens.
        extent: Where the parts of the prompt lie.
    """

    request: Request
    prompt: tuple[int, ...]
    extent: TokenSpans


@dataclass(slots=True, eq=False)
class Row:
    """State of one response while it is being generated.

    Attributes:
        queued: The request and its prompt.
        uniform: Its random numbers, one a token.
        tokens: Response tokens drawn so far, the end-of-turn token never among them.
        fed: How many of them have passed through the model (and so are in the sums).
        projections: For each token fed, the projections on the request's probes.
        tally: What the plan did to the prompt, and to the response before the gate.
        gate: The plan that the request's watch switched on, if it did.
        gate_from: Number of the first response token on which it acts.
        logprobs: Log-probability of each token drawn, if the request asks for them.
    """

    queued: Queued
    uniform: np.ndarray
    tokens: list[int] = field(default_factory=list)
    fed: int = 0
    projections: list[list[float]] = field(default_factory=list)
    tally: CapCounts = field(default_factory=CapCounts)
    gate: Plan | None = None
    gate_from: int = 0
    logprobs: list[float] = field(default_factory=list)
    _both: Plan | None = None

    @property
    def plan(self) -> Plan | None:
        """What acts on the tokens that are fed next: the plan, if it acts on the response, and the gate's."""
        if self.gate is not None:
            return self._both
        plan = self.queued.request.plan
        return plan if plan is not None and acts_on_response(plan) else None

    def open_gate(self, gate: Plan) -> None:
        """Let a plan act from the next token on, after the request's own."""
        plan = self.plan
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
        return len(self.tokens) >= self.queued.request.sampling.max_new_tokens

    @property
    def watched(self) -> bool:
        """Whether activations are read, so that the last token must be fed too."""
        request = self.queued.request
        return request.capture is not None or bool(request.probes)


def new_row(queued: Queued, tally: CapCounts) -> Row:
    """Begin a response; its random numbers depend on the run's seed and the request's id alone."""
    request = queued.request
    seed = request_seed(request.seed, request.id)
    return Row(queued, uniforms(seed, request.sampling.max_new_tokens), tally=tally)
