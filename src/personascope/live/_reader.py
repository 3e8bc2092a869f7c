"""The reader of a server's map: positions, space and monitor, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route
from transformers import PreTrainedTokenizerBase

from personascope.chat import ReplyFormat
from personascope.dynamics.monitor import Monitor
from personascope.engines import Probe
from personascope.errors import UsageError
from personascope.live._about import Answers, describing_answers
from personascope.live._page import page_routes
from personascope.live._positions import Positions
from personascope.live._reading import Reading
from personascope.live._served_reply import ServedReply
from personascope.space import PersonaMap


@dataclass(frozen=True, slots=True, eq=False)
class MapReader:
    """Reader of a map for a server, which asks it by way of `personascope.engines`.

    Attributes:
        positions: Reader of positions; None without a map.
        monitor: Drift monitor that conversations are checked with; None without one.
    """

    positions: Positions | None = None
    monitor: Monitor | None = None

    @classmethod
    def of(cls, persona_map: PersonaMap | None, layer: int | None, monitor: Monitor | None) -> MapReader:
        """Return the reader of a map; the layer is the monitor's, or the map's middle layer, if not given.

        Raises:
            UsageError: If layer or monitor do not fit the map, or there is none.
            DynamicsError: If the monitor is of another map.
        """
        if persona_map is None:
            if layer is not None or monitor is not None:
                raise UsageError(
                    "a layer or a monitor needs positions", hint="give the map of the model by --map"
                )
            return cls()
        at = layer if layer is not None or monitor is None else monitor.layer
        positions = Positions.of(persona_map, at)
        if monitor is not None:
            monitor.check_map(persona_map)
            if monitor.layer != positions.layer:
                raise UsageError(
                    f"the monitor reads layer {monitor.layer}, and positions are of layer {positions.layer}",
                    hint="leave --layer out",
                )
        return cls(positions, monitor)

    def reading(self, value: Mapping[str, Any] | None) -> Reading:
        """Return what a request's field asks for (`Reading.of`)."""
        return Reading.of(self.positions, value)

    def widest(self) -> tuple[Probe, ...]:
        """Return the probes of a reply of which everything is read; none without a map."""
        space = self.positions is not None and self.positions.space is not None
        return Reading(self.positions, tokens=True, space=space, layers=True).probes

    def begin(
        self,
        reading: Reading,
        tokenizer: PreTrainedTokenizerBase,
        reply: ReplyFormat | None,
        stops: Sequence[str],
        *,
        width: int,
        moved: bool,
    ) -> ServedReply:
        """Begin the reading of one reply of vLLM (`ServedReply`)."""
        return ServedReply(reading, tokenizer, reply, stops, width=width, moved=moved)

    def answers(self) -> Answers:
        """Return the answers of the routes that describe what is served."""
        return describing_answers(self.positions, self.monitor)

    def routes(self) -> list[Route]:
        """Return the routes of the page."""
        return page_routes()


def open_reader(map_folder: str = "", layer: str = "", monitor: str = "") -> MapReader:
    """Return the reader of a map in the process of a server; "" stands for what is not given.

    Raises:
        PersonascopeError: If map or monitor are damaged, or do not fit each other.
    """
    return MapReader.of(
        PersonaMap.open(map_folder) if map_folder else None,
        int(layer) if layer else None,
        Monitor.load(monitor) if monitor else None,
    )
