"""A running row: one request between its first token and its last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from personascope.engines._contract import Request, request_seed
from personascope.engines._transformers._sampling import uniforms


@dataclass(slots=True, eq=False)
class Queued:
    """A request with its prompt rendered."""

    request: Request
    prompt: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Row:
    """State of one response while it is being generated.

    Attributes:
        queued: The request and its prompt.
        uniform: Its random numbers, one a token.
        tokens: Response tokens drawn so far, the end-of-turn token never among them.
        fed: How many of them have passed through the model (and so are in the sums).
        projections: For each token fed, the projections on the request's probes.
    """

    queued: Queued
    uniform: np.ndarray
    tokens: list[int] = field(default_factory=list)
    fed: int = 0
    projections: list[list[float]] = field(default_factory=list)

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


def new_row(queued: Queued) -> Row:
    """Begin a response; its random numbers depend on the run's seed and the request's id alone."""
    request = queued.request
    seed = request_seed(request.seed, request.id)
    return Row(queued, uniforms(seed, request.sampling.max_new_tokens))
