"""Roles chosen by where they lie on the axis."""

from __future__ import annotations

import numpy as np

from personascope.errors import UsageError
from personascope.space import PersonaMap


def nearest_roles(found: PersonaMap, count: int = 50, *, layer: int | None = None) -> tuple[str, ...]:
    """Return the roles that lie nearest the Assistant's end of the axis, nearest first (section 3.2.1).

    Args:
        found: The model's map.
        count: How many.
        layer: Where; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    if not 1 <= count <= len(found.roles):
        raise UsageError(
            f"{count} roles were asked for, the map has {len(found.roles)}", mend="ask for fewer"
        )
    at = found.middle_layer if layer is None else layer
    along = found.role_vectors(at) @ found.unit_axis(at)
    return tuple(found.roles[index] for index in np.argsort(-along, kind="stable")[:count])


def spread_roles(found: PersonaMap, count: int, *, layer: int | None = None) -> tuple[str, ...]:
    """Return roles at even steps of rank along the axis, both ends among them, nearest the Assistant first.

    Args:
        found: The model's map.
        count: How many.
        layer: Where; the map's middle layer by default.

    Raises:
        UsageError: If the map has fewer roles.
    """
    if not 1 <= count <= len(found.roles):
        raise UsageError(
            f"{count} roles were asked for, the map has {len(found.roles)}", mend="ask for fewer"
        )
    at = found.middle_layer if layer is None else layer
    along = found.role_vectors(at) @ found.unit_axis(at)
    order = np.argsort(-along, kind="stable")
    places = np.linspace(0, len(order) - 1, count).round().astype(int)
    return tuple(found.roles[int(order[place])] for place in places)
