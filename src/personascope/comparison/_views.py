"""What is read of a map at one layer, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from personascope.errors import SpaceError
from personascope.space import PersonaMap

CONSTANT = 1e-6
"""Relative spread below which values count as equal: vectors are stored in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """A map at one layer; R roles, K components, width d, all float64.

    Attributes:
        persona_map: The map.
        layer: Layer, 0-based.
        label: Letter of the map in messages and output.
        name: Name of its run folder or folder.
        vectors: Role vectors.
        default: Vector of the default.
        axis: Unit axis.
        components: Unit components; PC1 points the way of the axis.
        loadings: Loadings of the role vectors on the components, centred on the map's mean.
        default_loadings: Loadings of the default.
        cosines: Cosines with the axis of the role vectors minus their mean.
        projections: Projections of the role vectors on the unit axis.
        default_projection: Projection of the default on the unit axis.
    """

    persona_map: PersonaMap
    layer: int
    label: str
    name: str
    vectors: Float[np.ndarray, "R d"]
    default: Float[np.ndarray, "d"]
    axis: Float[np.ndarray, "d"]
    components: Float[np.ndarray, "K d"]
    loadings: Float[np.ndarray, "R K"]
    default_loadings: Float[np.ndarray, "K"]
    cosines: Float[np.ndarray, "R"]
    projections: Float[np.ndarray, "R"]
    default_projection: float

    @property
    def where(self) -> str:
        """The map and its layer, for messages."""
        return f"{self.label} ({self.name}, layer {self.layer})"

    def rows(self, roles: Sequence[str]) -> np.ndarray:
        """Return the places of roles in the arrays over roles."""
        places = {role: place for place, role in enumerate(self.persona_map.roles)}
        return np.array([places[role] for role in roles], int)


def view(persona_map: PersonaMap, layer: int, label: str, name: str) -> MapView:
    """Read a map at one layer.

    An imported release has no components, so they are computed from its role vectors.

    Raises:
        SpaceError: If a value is not finite.
        UsageError: If the layer is not in the map, or a release has no default vector.
        StoreError: If the map is damaged.
    """
    vectors = persona_map.role_vectors(layer).astype(np.float64)
    default = persona_map.default_vector[layer].astype(np.float64)
    axis = persona_map.unit_axis(layer).astype(np.float64)
    named = {"a role vector": vectors, "the default vector": default, "the axis": axis}
    for what, values in named.items():
        if not np.isfinite(values).all():
            raise SpaceError(
                f"{what} of {label} ({name}) at layer {layer} is not finite",
                hint="map the model again, in bfloat16 or float32",
            )
    if persona_map.lacking:
        mean = vectors.mean(axis=0)
        components = _principal(vectors - mean, axis)
    else:
        mean = persona_map.mean(layer).astype(np.float64)
        components = persona_map.components(layer).astype(np.float64)
    about = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(about, axis=1)
    return MapView(
        persona_map=persona_map,
        layer=layer,
        label=label,
        name=name,
        vectors=vectors,
        default=default,
        axis=axis,
        components=components,
        loadings=(vectors - mean) @ components.T,
        default_loadings=components @ (default - mean),
        cosines=(about @ axis) / np.where(lengths > 0, lengths, 1.0),
        projections=vectors @ axis,
        default_projection=float(default @ axis),
    )


def _principal(centred: Float[np.ndarray, "R d"], axis: Float[np.ndarray, "d"]) -> Float[np.ndarray, "K d"]:
    """Return at most 10 unit components of centred vectors, the first with the sign of the axis."""
    components = np.linalg.svd(centred, full_matrices=False)[2][: min(10, len(centred) - 1)]
    if components[0] @ axis < 0:
        components[0] *= -1
    return components


def all_equal(vectors: Float[np.ndarray, "n d"]) -> bool:
    """Return whether vectors are equal up to the precision in which they are stored."""
    spread = np.linalg.norm(vectors - vectors.mean(axis=0))
    return bool(spread <= CONSTANT * np.linalg.norm(vectors))


def usable_components(loadings: Float[np.ndarray, "n K"]) -> int:
    """Return how many leading components the roles differ on."""
    spread = loadings.std(axis=0)
    if not len(spread) or spread[0] == 0:
        return 0
    return int(np.cumprod(spread > CONSTANT * spread[0]).sum())
