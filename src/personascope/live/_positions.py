"""Positions of tokens and replies in units of a map, before and after a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from personascope.engines import Probe
from personascope.errors import UsageError
from personascope.live._space import LayerReader, SpaceReader
from personascope.space import PersonaMap

OURS = "personascope "
"""Beginning of the names of the probes that positions are read with; a client's may have any other."""

PROBE = f"{OURS}position"
"""Name of the probe of the position at the layer of the positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Reader of positions at one layer of a map: 0 is the mean role, 1 the default.

    Attributes:
        persona_map: Map with the axis.
        layer: Layer of the positions.
        probe: Probe along the unit axis at that layer.
        has_percentiles: Whether the map knows how single responses in a role are spread.
        space: Reader of places in the persona space; None for an imported release, which has no components.
        layers: Reader of positions at every layer, for requests that ask for them.
    """

    persona_map: PersonaMap
    layer: int
    probe: Probe
    has_percentiles: bool
    space: SpaceReader | None
    layers: LayerReader

    @classmethod
    def of(cls, persona_map: PersonaMap, layer: int | None = None) -> Positions:
        """Return the reader of a map's positions, at its middle layer by default.

        Raises:
            UsageError: If the map has no such layer, or no units there.
        """
        at = persona_map.middle_layer if layer is None else layer
        mean_role, default = persona_map.units(at)
        if not (math.isfinite(mean_role) and math.isfinite(default)) or mean_role == default:
            raise UsageError(
                f"the map has no units at layer {at}: mean role {mean_role:g}, default {default:g}",
                hint="choose a layer at which the map tells them apart",
            )
        axis = persona_map.unit_axis(at)
        return cls(
            persona_map,
            at,
            Probe(PROBE, at, axis),
            bool(math.isfinite(persona_map.percentile(0.0, at))),
            None if persona_map.lacking else SpaceReader.of(persona_map, at),
            LayerReader.of(persona_map),
        )

    def position(self, projection: float) -> float:
        """Return the position of a raw projection."""
        return float(self.persona_map.to_units(projection, self.layer))

    def percentile(self, projection: float) -> float | None:
        """Return the percentile among single responses in a role (1 to 99); None if the map has none."""
        return float(self.persona_map.percentile(projection, self.layer)) if self.has_percentiles else None

    def record(self, after: float, before: float | None) -> dict[str, Any]:
        """Return a position as JSON values.

        Args:
            after: Raw projection after the plan.
            before: Raw projection before the plan's operations at this layer; None if it is not known.
        """
        return {
            "position": round(self.position(after), 4),
            "before": None if before is None else round(self.position(before), 4),
            "percentile": None if (found := self.percentile(after)) is None else round(found, 1),
        }

    def description(self) -> dict[str, Any]:
        """Return what a client needs to draw positions, as JSON values."""
        mean_role, default = self.persona_map.units(self.layer)
        found: dict[str, Any] = {
            "layer": self.layer,
            "units": {"mean_role": 0.0, "default": 1.0},
            # Raw projections of both, from which those of a position follow.
            "projections": {"mean_role": mean_role, "default": default},
            "digest": self.persona_map.digest,
            "layers": list(self.layers.layers),
            "space": self.space is not None,
        }
        if self.has_percentiles:
            quantiles = self.persona_map.quantiles
            for name, rows in (("role", quantiles.role), ("default", quantiles.default)):
                values = [self.position(float(value)) for value in rows[self.layer]]
                if all(map(math.isfinite, values)):
                    found[f"{name}_percentiles"] = dict(
                        zip(map(str, quantiles.percentiles), np.round(values, 4).tolist(), strict=True)
                    )
        return found
