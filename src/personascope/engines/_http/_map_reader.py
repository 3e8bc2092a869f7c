"""What a server asks of the reader of its map, which stands above the engines and is loaded by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from starlette.routing import Route

from personascope.chat import ReplyFormat
from personascope.engines._contract import Probe

READS = ("positions", "space", "layers")
"""Fields of a request that need the map."""


class Reading(Protocol):
    """What a request asks to be read of its reply."""

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Probes that must be read; none if nothing is."""
        ...

    @property
    def tokens(self) -> bool:
        """Whether tokens are told one by one."""
        ...

    @property
    def mean_layer(self) -> int | None:
        """Layer at which the mean of the residual stream is needed; None for none."""
        ...


class ServedReply(Protocol):
    """Reading of one reply, as its tokens and their projections come."""

    def feed(self, tokens: Sequence[int]) -> None:
        """Take new tokens of the response."""
        ...

    def project(self, rows: Sequence[Sequence[float]]) -> None:
        """Take the projections of further tokens."""
        ...

    def told(self) -> list[dict[str, Any]]:
        """Return the tokens that can be told and were not yet, as JSON values."""
        ...

    def end(self, reason: str | None, stop: Any) -> None:
        """Take note of the end of the reply."""
        ...

    def totals(self, mean: np.ndarray | None) -> dict[str, Any]:
        """Return the positions of the whole reply, as JSON values."""
        ...


class MapReader(Protocol):
    """Reader of a server's map, and its page."""

    def reading(self, value: Mapping[str, Any] | None) -> Reading:
        """Return what a request's field asks for; None stands for a request without it.

        Raises:
            EngineError: If it asks for what there is not.
        """
        ...

    def begin(
        self,
        reading: Any,
        tokenizer: Any,
        reply: ReplyFormat | None,
        stops: Sequence[str],
        *,
        width: int,
        moved: bool,
    ) -> ServedReply:
        """Begin the reading of one reply."""
        ...

    def widest(self) -> tuple[Probe, ...]:
        """Return the probes of a reply of which everything is read."""
        ...

    def answers(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the answers of the routes under /v1/personascope that describe what is served."""
        ...

    def routes(self) -> list[Route]:
        """Return the routes of the page."""
        ...
