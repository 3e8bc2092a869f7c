"""What a request asks to be read of its reply in units of a map, and the JSON values that tell it.

Both servers read the same: the one on the Transformers engine in its own process, vLLM's by way of the
projections that its workers send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from personascope.engines import Probe
from personascope.errors import EngineError
from personascope.live._positions import Positions
from personascope.live._text import TokenText

Row = Sequence[float]
"""Projections of a token on the probes of a reading, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What is read of a reply.

    Attributes:
        positions: Reader of positions; None without a map, or if none are asked for.
        tokens: Whether the position of every token is asked for.
        space: Whether the place in the persona space is asked for.
        layers: Whether the positions at every layer are asked for.
    """

    positions: Positions | None = None
    tokens: bool = False
    space: bool = False
    layers: bool = False

    @classmethod
    def of(cls, positions: Positions | None, value: Mapping[str, Any] | None) -> Reading:
        """Return what a request's field asks for; every reply has positions where there is a map.

        Args:
            positions: Reader of the server's map; None without one.
            value: Field of the request; None for a request without it, whose tokens are not told one by one.

        Raises:
            EngineError: If the field asks for what there is not, or is malformed.
        """
        asked: Mapping[str, Any] = {} if value is None else value
        tokens = read_flag(asked, "positions", default=value is not None and positions is not None)
        if tokens and positions is None:
            raise EngineError("positions need the map of the model", hint="start the server with --map")
        shown = None if asked.get("positions") is False else positions
        space, layers = (read_flag(asked, name, default=False) for name in ("space", "layers"))
        if (space or layers) and shown is None:
            raise EngineError(
                f"{'space' if space else 'layers'} needs positions",
                hint="start the server with --map, and leave positions out or true",
            )
        if space and shown is not None and shown.space is None:
            raise EngineError("an imported release has no persona space", hint="map the model yourself")
        return cls(shown, tokens, space, layers)

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Probes that must be read: the position's, the space's, the layers'."""
        if self.positions is None:
            return ()
        drawn = self.positions.space
        return (
            self.positions.probe,
            *(drawn.probes if self.space and drawn is not None else ()),
            *(self.positions.layers.probes if self.layers else ()),
        )

    @property
    def mean_layer(self) -> int | None:
        """Layer at which the mean of the residual stream is needed; None for none.

        The nearest roles are those of the mean itself, in all dimensions.
        """
        return self.positions.layer if self.positions is not None and self.space else None

    @property
    def columns(self) -> tuple[slice, slice]:
        """Columns of the space and of the layers in a token's projections."""
        if self.positions is None:
            return slice(0), slice(0)
        drawn = self.positions.space
        space = 1 + (len(drawn.probes) if self.space and drawn is not None else 0)
        layers = space + (len(self.positions.layers.probes) if self.layers else 0)
        return slice(1, space), slice(space, layers)


@dataclass(slots=True, eq=False)
class ReplyReading:
    """What was read of one reply so far.

    Attributes:
        reading: What is read.
        after: Projections of each response token after the plan's operations.
        before: The same just before them, of as many tokens as are known.
    """

    reading: Reading
    after: list[Row] = field(default_factory=list[Row])
    before: list[Row] = field(default_factory=list[Row])

    def token(self, one: TokenText) -> dict[str, Any]:
        """Return a token as JSON values; without a position where it has no projection."""
        positions = self.reading.positions
        assert positions is not None
        head = {"text": one.text, "part": one.part or "mark"}
        if one.index >= len(self.after):
            return {**head, "position": None, "before": None, "percentile": None}
        after = self.after[one.index]
        before = self.before[one.index] if one.index < len(self.before) else None
        record = positions.record(after[0], None if before is None else before[0])
        if self.reading.layers:
            record |= self._by_layer(after, before)
        return {**head, **record}

    def totals(
        self, parts: Mapping[str, Sequence[int]], mean: Float32[np.ndarray, "d"] | None
    ) -> dict[str, Any]:
        """Return the position of the answer, and apart from it that of the thinking.

        Args:
            parts: Name of a part -> indices of its tokens.
            mean: Mean of the response's residual stream at ``Reading.mean_layer``; None if it is not known.
        """
        positions = self.reading.positions
        if positions is None:
            return {}
        found: dict[str, Any] = {"layer": positions.layer}
        for name in ("answer", "thinking"):
            chosen = [at for at in parts.get(name, ()) if at < len(self.after)]
            if not chosen:
                continue
            after = _mean([self.after[at] for at in chosen])
            known = [self.before[at] for at in chosen if at < len(self.before)]
            before = _mean(known) if len(known) == len(chosen) else None
            told = positions.record(float(after[0]), None if before is None else float(before[0]))
            found[name] = told | {"tokens": len(chosen)}
            if self.reading.space and positions.space is not None:
                space, place = self.reading.columns[0], positions.space.place
                found[name]["space"] = place(after[space])
                found[name]["space_before"] = None if before is None else place(before[space])
            if self.reading.layers:
                found[name] |= self._by_layer(after, before)
        if self.reading.space and positions.space is not None and mean is not None:
            found["nearest"] = positions.space.nearest(mean)
        return found

    def _by_layer(self, after: Any, before: Any) -> dict[str, Any]:
        """Return positions at every layer, of a token's projections or of means of them."""
        assert self.reading.positions is not None
        read, chosen = self.reading.positions.layers, self.reading.columns[1]
        return {
            "layers": read.positions(after[chosen]),
            "layers_before": None if before is None else read.positions(before[chosen]),
        }


def _mean(rows: Sequence[Row]) -> np.ndarray:
    return np.mean(np.array(rows, np.float64), axis=0)


def read_flag(value: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a field that is true or false.

    Raises:
        EngineError: If it is something else.
    """
    flag = value.get(name)
    if flag is None:
        return default
    if not isinstance(flag, bool):
        raise EngineError(f"{name} is {flag!r}"[:100], hint="give true or false")
    return flag
