"""Directions of a map that can be added, subtracted and scaled, at every layer."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from personascope.directions import NamedProbe
from personascope.engines import Probe
from personascope.errors import UsageError
from personascope.text import escape_controls


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Direction:
    """A direction at each layer of a model; directions can be added, subtracted and scaled.

    A direction that a map names (`PersonaMap.axis`, `PersonaMap.direction`) has length 1 at every layer, so
    that ``0.7 * a - 0.3 * b`` weighs both alike whatever their norms are. A sum is not scaled again until it
    is used: plans and projections take it at length 1.

    Attributes:
        name: Name, such as "axis" or "0.7*axis - 0.3*pc2".
        n_layers: Number of layers of the model.
        d_model: Width of the residual stream.
        vector: Function from a layer to the vector there, float64 [d].
        middle_layer: Default layer.
    """

    name: str
    n_layers: int
    d_model: int
    vector: Callable[[int], Float[np.ndarray, "d"]]
    middle_layer: int

    def at(self, layer: int | None = None) -> Float32[np.ndarray, "d"]:
        """Return the direction at a layer at length 1.

        Args:
            layer: Layer; the map's middle layer if not given.

        Raises:
            UsageError: If there is no such layer, or the direction is zero there.
        """
        at = self.middle_layer if layer is None else layer
        if not 0 <= at < self.n_layers:
            raise UsageError(f"layer {at} is not in the map", hint=f"choose 0 to {self.n_layers - 1}")
        vector = np.asarray(self.vector(at), np.float64)
        length = float(np.linalg.norm(vector))
        if not length > 0:
            raise UsageError(f"the direction {self.name} is zero at layer {at}", hint="choose another one")
        return (vector / length).astype(np.float32)

    def probe(self, layer: int | None = None) -> NamedProbe:
        """Return the direction as a probe of the engines and of `PersonaMap.project`."""
        at = self.middle_layer if layer is None else layer
        return NamedProbe(self.name, Probe(self.name, at, self.at(at)))

    def cosine(self, other: Direction, layer: int | None = None) -> float:
        """Return the cosine with another direction at a layer.

        Raises:
            UsageError: If the directions are of models of other shapes, or there is no such layer.
        """
        self._check(other)
        return float(self.at(layer).astype(np.float64) @ other.at(layer).astype(np.float64))

    def __add__(self, other: Direction) -> Direction:
        """Return the sum of two directions, layer by layer."""
        return self._with(other, 1.0)

    def __sub__(self, other: Direction) -> Direction:
        """Return the difference of two directions, layer by layer."""
        return self._with(other, -1.0)

    def __mul__(self, factor: float) -> Direction:
        """Return the direction with every vector multiplied by a number."""
        if not isinstance(factor, numbers.Real) or not np.isfinite(float(factor)):
            raise UsageError(f"a direction is multiplied by {factor!r}", hint="give a finite number")
        inner = f"({self.name})" if " " in self.name else self.name
        scale = float(factor)
        return self._made(f"{scale:g}*{inner}", lambda layer: scale * np.asarray(self.vector(layer), float))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Direction:
        """Return the direction with every vector divided by a number other than 0."""
        if not divisor:
            raise UsageError("a direction is divided by 0", hint="give another number")
        return self * (1.0 / divisor)

    def __neg__(self) -> Direction:
        """Return the opposite direction."""
        return self._made(f"-{self.name}" if " " not in self.name else f"-({self.name})", self._negated)

    def _negated(self, layer: int) -> Float[np.ndarray, "d"]:
        return -np.asarray(self.vector(layer), float)

    def _with(self, other: Direction, sign: float) -> Direction:
        self._check(other)
        right = f"({other.name})" if sign < 0 and " " in other.name else other.name
        # "a - -b" and "a + -b" are read with pain; a negative factor takes the sign over.
        shown = "-" if sign < 0 else "+"
        if right.startswith("-"):
            shown, right = ("+" if sign < 0 else "-"), right[1:]

        def vector(layer: int) -> Float[np.ndarray, "d"]:
            return np.asarray(self.vector(layer), float) + sign * np.asarray(other.vector(layer), float)

        return self._made(f"{self.name} {shown} {right}", vector)

    def _check(self, other: Direction) -> None:
        if (self.n_layers, self.d_model) != (other.n_layers, other.d_model):
            raise UsageError(
                f"{self.name} is of {self.n_layers} layers of {self.d_model}, {other.name} of "
                f"{other.n_layers} of {other.d_model}",
                hint="take both from maps of one model",
            )

    def _made(self, name: str, vector: Callable[[int], Float[np.ndarray, "d"]]) -> Direction:
        return Direction(name, self.n_layers, self.d_model, vector, self.middle_layer)

    def __repr__(self) -> str:
        """Return the name and the shape."""
        return escape_controls(f"Direction({self.name}: {self.n_layers} layers of {self.d_model})")
