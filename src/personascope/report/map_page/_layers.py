"""What the report shows of each layer: places of the roles, and the axis in the components."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from personascope.report.map_page._data import LayerView, Point
from personascope.space import PersonaMap

CELLS = 16_000
"""Maximum number of pairs of a role and a layer on the page, some 0.5 MB."""

COMPONENTS = 64
"""Maximum number of components whose variance is on the page."""


def shown_layers(n_layers: int, n_roles: int, middle: int) -> tuple[int, ...]:
    """Return the layers to show: all of them, or every n-th one from the middle layer on."""
    step = max(1, math.ceil(n_layers * n_roles / CELLS))
    return tuple(layer for layer in range(n_layers) if (layer - middle) % step == 0)


def layer_views(persona_map: PersonaMap) -> tuple[LayerView, ...]:
    """Return the views of a map's layers, with one layer of role vectors in memory at a time."""
    chosen = shown_layers(persona_map.n_layers, len(persona_map.roles), persona_map.middle_layer)
    return tuple(_views(persona_map, chosen))


def _views(persona_map: PersonaMap, chosen: tuple[int, ...]) -> Iterator[LayerView]:
    stats = persona_map.stats
    default = persona_map.default_vector
    for layer in chosen:
        components = persona_map.components(layer)[:3].astype(np.float64)
        mean = persona_map.mean(layer).astype(np.float64)
        points = (persona_map.role_vectors(layer).astype(np.float64) - mean) @ components.T
        mean_role, at_default = persona_map.units(layer)
        yield LayerView(
            layer=layer,
            mean=mean_role,
            default=at_default,
            projections=tuple(short(value) for value in stats.projections[layer]),
            points=tuple(as_point(row) for row in points),
            default_point=as_point((default[layer].astype(np.float64) - mean) @ components.T),
            axis=as_point(components @ persona_map.unit_axis(layer).astype(np.float64)),
            variance=tuple(short(value) for value in stats.variance_ratio[layer][:COMPONENTS]),
        )


def as_point(values: Any) -> Point:
    """Return the first three values, with 0 for components that do not exist."""
    x, y, z = [*(short(value) for value in values[:3]), 0.0, 0.0, 0.0][:3]
    return x, y, z


def short(value: Any) -> float:
    """Return a number with four significant digits: enough for a figure, and half as long."""
    return float(f"{float(value):.4g}")
