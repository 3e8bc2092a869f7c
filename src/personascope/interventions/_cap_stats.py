"""What a plan did to one response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CapStats:
    """On how many tokens and layers a plan's caps fired for one request, and how far they moved them.

    Counted are the tokens that passed through the model: the prompt's, whether or not its keys and
    values came from a prefix shared with other requests, and the response's. The last token of a
    response, which may be its only one, passes through only where activations are read. In vLLM, prompt
    tokens that its prefix cache held are not counted: their counts went with the request that put them
    there.

    Attributes:
        tokens: Tokens on which some operation of the plan acts.
        capped_tokens: Tokens on which a cap fired at one layer or more.
        fired: Layer -> tokens on which a cap of that layer fired; every capped layer has an entry.
        moved: Layer -> mean length by which the caps moved the tokens on which they fired, in the
            units of the residual stream; 0 where none did.
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
