"""Roles chosen by where they lie on the axis."""

from __future__ import annotations

import numpy as np

from personascope.errors import UsageError
from personascope.space import PersonaMap


def nearest_roles(persona_map: PersonaMap, count: int = 50, *, layer: int | None = None) -> tuple[str, ...]:
    """Return the roles that lie nearest the Assistant's end of the axis, nearest first (section 3.2.1).

    Args:
        persona_map: The model's map.
        count: How many.
        layer: Where; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    return _by_position(persona_map, count, layer)[:count]


def spread_roles(persona_map: PersonaMap, count: int, *, layer: int | None = None) -> tuple[str, ...]:
    """Return roles at even steps of rank along the axis, both ends among them, nearest the Assistant first.

    Args:
        persona_map: The model's map.
        count: How many.
        layer: Where; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    roles = _by_position(persona_map, count, layer)
    return tuple(roles[place] for place in np.linspace(0, len(roles) - 1, count).round().astype(int))


def _by_position(persona_map: PersonaMap, count: int, layer: int | None) -> tuple[str, ...]:
    """Return all roles, nearest the Assistant's end first, if the map has so many."""
    if not 1 <= count <= len(persona_map.roles):
        raise UsageError(
            f"{count} roles were asked for, the map has {len(persona_map.roles)}", hint="ask for fewer"
        )
    at = persona_map.middle_layer if layer is None else layer
    along = persona_map.role_vectors(at) @ persona_map.unit_axis(at)
    return tuple(persona_map.roles[index] for index in np.argsort(-along, kind="stable"))
