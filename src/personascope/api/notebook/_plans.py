"""Plans that know the map they were made from, and how `PersonaMap.steer` and `PersonaMap.cap` make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from personascope.api._steer import make_cap_plan
from personascope.calibration import Sample, default_windows, parse_window
from personascope.directions import plan_model
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan, Steer

if TYPE_CHECKING:
    from personascope.api._mapped_model import MappedModel
    from personascope.api.notebook._direction import Direction
    from personascope.api.notebook._persona_map import PersonaMap

Layers = tuple[int, int] | range | str
"""Band of layers: first and end (exclusive), a range, or a text such as "14:22"."""


@dataclass(frozen=True, eq=False, repr=False)
class MapPlan(Plan):
    """A plan together with the map that it was made from; saved and sent, it is a plan like any other.

    Attributes:
        pmap: Map that the plan was made from.
    """

    pmap: PersonaMap | None = field(default=None, compare=False)

    def __add__(self, other: Plan) -> Plan:
        """Return a plan with the operations of both, these first."""
        return with_map(Plan.__add__(self, other), self.pmap)

    def __radd__(self, other: Plan) -> Plan:
        """Return a plan with the operations of both, the other's first."""
        return with_map(Plan.__add__(other, self), self.pmap)


def with_map(plan: Plan, pmap: PersonaMap | None) -> Plan:
    """Return a plan with the map that it was made from."""
    return MapPlan(plan.ops, plan.model, plan.name, pmap)


def map_of(plans: Sequence[Plan | None]) -> PersonaMap | None:
    """Return the map that plans were made from; None if they know of none.

    Raises:
        UsageError: If they are of different maps.
    """
    found = {
        id(plan.pmap): plan.pmap for plan in plans if isinstance(plan, MapPlan) and plan.pmap is not None
    }
    folders = {str(pmap.folder): pmap for pmap in found.values()}
    if len(folders) > 1:
        raise UsageError(
            f"the plans are of the maps {' and '.join(folders)}",
            hint="say by pmap= in whose units positions are given",
        )
    return next(iter(folders.values()), None)


def band(layers: Layers | None, n_layers: int) -> range:
    """Return a band of layers as a range; the last default band for None.

    Raises:
        UsageError: If it is no band of the model.
    """
    if layers is None:
        window = default_windows(n_layers)[-1]
        return range(window.start, window.stop)
    if isinstance(layers, range):
        text = f"{layers.start}:{layers.stop}" if layers.step == 1 else str(layers)
    elif isinstance(layers, str):
        text = layers
    else:
        text = ":".join(str(layer) for layer in layers)
    window = parse_window(text, n_layers)
    return range(window.start, window.stop)


def steer_plan(
    mapped: MappedModel, strength: float, *, direction: Direction | None, layer: int | None, tokens: str
) -> Plan:
    """Return a plan that adds a fraction of the layer's mean norm along a direction.

    Raises:
        SpaceError: If the map found no axis and no direction is given.
        UsageError: If the map has no such layer.
    """
    at = mapped.layer(layer)
    vector = mapped.persona_map.unit_axis(at) if direction is None else direction.at(at)
    name = f"{'axis' if direction is None else direction.name} {strength:+g} at layer {at}"
    op = Steer(at, vector, strength, float(mapped.norms()[at]), tokens)
    return Plan((op,), plan_model(mapped.persona_map), name)


def cap_plan(
    mapped: MappedModel,
    layers: Layers | None,
    floors: dict[str, float | None],
    *,
    direction: Direction | None,
    tokens: str,
    anyway: bool,
) -> Plan:
    """Return a plan that keeps the projection on a direction at or above a floor, at a band of layers.

    Args:
        mapped: Mapped model, which is not loaded.
        layers: Band of layers.
        floors: The floor by each of its names: "percentile", "position", "mean_plus_sd"; one is not None.
        direction: Direction instead of the axis.
        tokens: Tokens to act on.
        anyway: Whether to accept a map without an axis.

    Raises:
        UsageError: If not exactly one floor is given, or it does not go with the direction.
        SpaceError: If the map found no axis.
        EvaluationError: If the floor is read from responses and the run kept none.
    """
    given = {name: value for name, value in floors.items() if value is not None}
    if len(given) != 1:
        raise UsageError(
            f"a cap needs one floor, and {len(given)} are given",
            hint="give percentile=75 (of responses in a role), position=0.0 (0 mean role, 1 default), or "
            "mean_plus_sd=0.5",
        )
    persona_map = mapped.persona_map
    at = band(layers, persona_map.n_layers)
    name, value = next(iter(given.items()))
    if direction is None and name != "position":
        plan = make_cap_plan(
            mapped,
            layers=f"{at.start}:{at.stop}",
            axis_percentile=given.get("percentile"),
            mean_plus_sd=given.get("mean_plus_sd"),
            anyway=anyway,
        )
        if tokens == "all":
            return plan
        ops = tuple(replace(op, tokens=tokens) for op in plan.ops)
        return Plan(ops, plan.model, f"{plan.name}, {tokens}")
    if direction is None:
        mapped.require_axis(anyway=anyway)
        units = [persona_map.units(layer) for layer in at]
        bounds = [mean + value * (default - mean) for mean, default in units]
        if not np.isfinite(bounds).all():
            raise UsageError(
                f"the map in {persona_map.folder} has no positions: {persona_map.lacking}",
                hint="map the model, or take the authors' caps by `personascope import`",
            )
        vectors = [persona_map.unit_axis(layer) for layer in at]
    else:
        if name == "position":
            raise UsageError(
                f"{direction.name} has no positions, which only the axis has",
                hint="give percentile= or mean_plus_sd=",
            )
        vectors = [direction.at(layer) for layer in at]
        bounds = _bounds(mapped, direction, at, name, value)
    caps = tuple(
        Cap(layer, vector, floor=float(floor), tokens=tokens)
        for layer, vector, floor in zip(at, vectors, bounds, strict=True)
    )
    where = {"percentile": f"percentile {value:g}", "mean_plus_sd": f"mean {value:+g} sd"}.get(
        name, f"position {value:g}"
    )
    along = "" if direction is None else f" on {direction.name}"
    more = "" if tokens == "all" else f", {tokens}"
    title = f"cap {at.start}:{at.stop}{along} at {where}{more}"
    return Plan(caps, plan_model(persona_map), title)


def _bounds(mapped: MappedModel, direction: Direction, at: range, name: str, value: float) -> list[float]:
    """Return the floor on a direction at each layer, from the run's kept responses."""
    sample = Sample.open(mapped.layout.folder)
    n_layers = mapped.persona_map.n_layers
    rows: list[Float[np.ndarray, "d"]] = [
        np.asarray(direction.at(layer if layer in at else at.start), np.float64) for layer in range(n_layers)
    ]
    along = sample.project(np.stack(rows))
    if name == "percentile":
        return [along.floor_at_axis_percentile(value, layer) for layer in at]
    return [along.floor_at_mean_plus_sd(value, layer) for layer in at]
