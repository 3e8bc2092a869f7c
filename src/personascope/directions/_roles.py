"""Selection of roles by their projection on the axis."""

from __future__ import annotations

import numpy as np

from personascope.errors import UsageError
from personascope.space import PersonaMap


def nearest_roles(persona_map: PersonaMap, count: int = 50, *, layer: int | None = None) -> tuple[str, ...]:
    """Return the roles nearest the Assistant's end of the axis, nearest first (section 3.2.1).

    Args:
        persona_map: Map of the model.
        count: Number of roles.
        layer: Layer of the projections; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    return _by_position(persona_map, count, layer)[:count]


def spread_roles(persona_map: PersonaMap, count: int, *, layer: int | None = None) -> tuple[str, ...]:
    """Return roles evenly spaced by rank along the axis, both ends included, nearest the Assistant first.

    Args:
        persona_map: Map of the model.
        count: Number of roles.
        layer: Layer of the projections; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    roles = _by_position(persona_map, count, layer)
    return tuple(roles[place] for place in np.linspace(0, len(roles) - 1, count).round().astype(int))


def _by_position(persona_map: PersonaMap, count: int, layer: int | None) -> tuple[str, ...]:
    """Return all roles, nearest the Assistant's end first; raise if the map has fewer than ``count``."""
    if not 1 <= count <= len(persona_map.roles):
        raise UsageError(
            f"{count} roles were asked for, the map has {len(persona_map.roles)}", hint="ask for fewer"
        )
    at = persona_map.middle_layer if layer is None else layer
    along = persona_map.role_vectors(at) @ persona_map.unit_axis(at)
    return tuple(persona_map.roles[index] for index in np.argsort(-along, kind="stable"))
