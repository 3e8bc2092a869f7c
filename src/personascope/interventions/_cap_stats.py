"""Report what a plan's caps did in one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CapStats:
    """Number of tokens and layers on which a plan's caps fired in one request, and the lengths of the moves.

    Tokens count if they passed through the model: those of the prompt, whether or not their keys and values
    came from a prefix shared with other requests, and those of the response. The last token of a response,
    which may be its only one, passes through only where activations are read. In vLLM, prompt tokens held by
    its prefix cache are not counted, because they were counted with the request that put them there.

    Attributes:
        tokens: Number of tokens on which some operation of the plan acts.
        capped_tokens: Number of tokens on which a cap fired at one layer or more.
        fired: Layer -> number of tokens on which a cap of that layer fired; every capped layer has an entry.
        moved: Layer -> mean length by which its caps moved the tokens on which they fired, in the units of
            the residual stream; 0 where none did.
        max_moved: Greatest such length at any layer.
    """

    tokens: int
    capped_tokens: int = 0
    fired: Mapping[int, int] = field(default_factory=dict[int, int])
    moved: Mapping[int, float] = field(default_factory=dict[int, float])
    max_moved: float = 0.0

    @property
    def firing_share(self) -> float:
        """Share of the tokens on which a cap fired at one layer or more."""
        return self.capped_tokens / self.tokens if self.tokens else 0.0
