"""A reply's place in the persona space of a map: on its components, among its roles, and at every layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from personascope.engines import Probe
from personascope.space import PersonaMap, position

SHOWN = 3
"""Number of components that the space is drawn on."""

NEAREST = 5
"""Number of roles and of traits that are named for a reply."""


@dataclass(frozen=True, slots=True, eq=False)
class SpaceReader:
    """Reader of places in the persona space at one layer.

    A place is on the first components, counted from the mean of the vectors that the map's PCA rests on, in
    the units of the residual stream. Nearness is the cosine between a response's mean and a role's vector,
    both from that mean, in all dimensions and not in the drawn ones alone. A trait's vector is a difference
    already, and is compared as it is.

    Attributes:
        layer: Layer of the space.
        probes: One probe for each shown component, three or fewer.
        variance: Share of the variance of the map's vectors on each shown component; NaN if unknown.
        roles: Names of the R roles.
        traits: Names of the T traits of all sets.
    """

    layer: int
    probes: tuple[Probe, ...]
    variance: tuple[float, ...]
    roles: tuple[str, ...]
    traits: tuple[str, ...]
    _mean: Float[np.ndarray, "d"]
    _role_vectors: Float[np.ndarray, "R d"]
    _trait_vectors: Float[np.ndarray, "T d"]
    _components: Float[np.ndarray, "3 d"]
    _default: Float[np.ndarray, "d"]
    _axis: Float[np.ndarray, "d"]
    _positions: list[float]

    @classmethod
    def of(cls, persona_map: PersonaMap, layer: int) -> SpaceReader:
        """Return the reader of a map's space at a layer.

        Raises:
            StoreError: If a tensor of the map or of its traits is damaged.
            UsageError: If the map has no such layer.
        """
        mean = persona_map.mean(layer).astype(np.float64)
        components = persona_map.components(layer)[:SHOWN].astype(np.float64)
        centred = persona_map.role_vectors(layer).astype(np.float64) - mean
        variance = np.atleast_2d(persona_map.stats.variance_ratio)
        traits = [(name, one.vector(name)[layer]) for one in persona_map.traits for name in one.traits]
        return cls(
            layer,
            tuple(
                Probe(f"personascope component {number + 1}", layer, row.astype(np.float32))
                for number, row in enumerate(components)
            ),
            # A map of an earlier version has no shares, or those of fewer components.
            tuple(map(float, variance[layer, : len(components)])) if len(variance) > layer else (),
            persona_map.roles,
            tuple(name for name, _ in traits),
            mean,
            centred,
            np.array([vector for _, vector in traits], np.float64).reshape(len(traits), len(mean)),
            components,
            persona_map.default_vector[layer].astype(np.float64) - mean,
            persona_map.unit_axis(layer).astype(np.float64),
            _rounded(persona_map.to_units(persona_map.stats.projections[layer], layer)),
        )

    def place(self, projections: Float[np.ndarray, "3"]) -> list[float]:
        """Return the place of raw projections on the components."""
        return _rounded(np.asarray(projections, np.float64) - self._components @ self._mean)

    def nearest(self, pooled: Float32[np.ndarray, "d"]) -> dict[str, Any]:
        """Return the nearest roles and traits of a response's mean at the layer, as JSON values."""
        offset = np.asarray(pooled, np.float64) - self._mean
        return {
            "roles": _nearest(self.roles, self._role_vectors, offset),
            "traits": _nearest(self.traits, self._trait_vectors, offset),
        }

    def description(self) -> dict[str, Any]:
        """Return what a client needs to draw the space, as JSON values."""
        return {
            "layer": self.layer,
            "variance": [None if math.isnan(share) else round(share, 4) for share in self.variance],
            "roles": [
                {"name": name, "at": _rounded(self._components @ row), "position": place}
                for name, row, place in zip(self.roles, self._role_vectors, self._positions, strict=True)
            ],
            "default": _rounded(self._components @ self._default),
            "axis": _rounded(self._components @ self._axis),
            "traits": list(self.traits),
        }


@dataclass(frozen=True, slots=True, eq=False)
class LayerReader:
    """Reader of positions at every layer of a map.

    Attributes:
        layers: Layers at which the map has units.
        probes: Probe along the unit axis at each of these layers.
    """

    layers: tuple[int, ...]
    probes: tuple[Probe, ...]
    _mean_role: Float[np.ndarray, "L"]
    _default: Float[np.ndarray, "L"]

    @classmethod
    def of(cls, persona_map: PersonaMap) -> LayerReader:
        """Return the reader of a map's positions by layer."""
        units = [persona_map.units(layer) for layer in range(persona_map.n_layers)]
        layers = tuple(
            layer for layer, (low, high) in enumerate(units) if math.isfinite(low - high) and low != high
        )
        probes = tuple(
            Probe(f"personascope layer {layer}", layer, persona_map.unit_axis(layer)) for layer in layers
        )
        chosen = np.array([units[layer] for layer in layers], np.float64).reshape(len(layers), 2)
        return cls(layers, probes, chosen[:, 0], chosen[:, 1])

    def positions(self, projections: Float[np.ndarray, "L"]) -> list[float]:
        """Return the positions of raw projections, in the order of ``layers``."""
        raw = np.asarray(projections, np.float64)
        return _rounded(position(raw, self._mean_role, self._default))


def _nearest(names: tuple[str, ...], vectors: Any, offset: Any) -> list[dict[str, Any]]:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(offset)
    cosines = np.divide(vectors @ offset, lengths, out=np.zeros(len(names)), where=lengths > 0)
    order = np.argsort(-cosines, kind="stable")[:NEAREST]
    return [{"name": names[at], "cosine": round(float(cosines[at]), 3)} for at in order]


def _rounded(values: Any) -> list[float]:
    return np.round(values, 3).tolist()
