"""Define the three operations on a residual stream: steer, ablate, cap.

Each moves a token's activation h along one unit direction v of one layer, and leaves everything orthogonal to
v unchanged. Layer l is the residual stream after block l, 0-based.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from personascope.errors import InterventionError
from personascope.text import brief

_UNIT = 1e-6
REPLY_PARTS = ("thinking", "answer", "tool_calls")
"""Parts of a response that an operation may be restricted to."""

_TOKENS = re.compile(rf"all|prompt|response|{'|'.join(REPLY_PARTS)}|turn:[0-9]{{1,9}}")
_MAX_LAYER = 1 << 31

DTYPE_MAX = {
    "float32": float(np.finfo(np.float32).max),
    "bfloat16": float((2 - 2**-7) * 2.0**127),
    "float16": float(np.finfo(np.float16).max),
}
"""Greatest finite number of each dtype in which a model may run."""


@dataclass(frozen=True, slots=True, eq=False)
class Steer:
    """Add a fixed length along a direction: h + strength * norm * v (section 3.2 of the paper).

    Attributes:
        layer: Block index.
        direction: Direction of any length but zero; stored at length 1, float32 [d].
        strength: Fraction of ``norm``; a negative one moves against the direction.
        norm: Mean norm of the residual stream at the layer; None makes ``strength`` a raw length.
        tokens: Tokens to act on: "all", "prompt", "response", a part of the response ("thinking", "answer",
            "tool_calls"), or "turn:N" for all from the first token of message N (0-based, counting the system
            message).

    Raises:
        InterventionError: If a value is malformed or not finite.
    """

    layer: int
    direction: Float32[np.ndarray, "d"]
    strength: float
    norm: float | None = None
    tokens: str = "all"

    def __repr__(self) -> str:
        """Return the fields on one line, the direction by its shape."""
        return brief(self)

    def __post_init__(self) -> None:
        """Check the values, and scale the direction to length 1."""
        _check(self)
        _finite(self, "strength", self.strength)
        if self.norm is not None:
            _finite(self, "norm", self.norm)
            if self.norm <= 0:
                raise InterventionError(
                    f"{_name(self)} has norm {self.norm}",
                    hint="give the mean norm of the residual stream at the layer, or None for a raw strength",
                )
        _finite(self, "strength times norm", self.amount)

    @property
    def amount(self) -> float:
        """Length added along the unit direction, in the units of the residual stream."""
        return self.strength * (1.0 if self.norm is None else self.norm)


@dataclass(frozen=True, slots=True, eq=False)
class Ablate:
    """Set the projection on a direction to one value: h + (to - <h, v>) * v.

    Attributes:
        layer: Block index.
        direction: Direction, as in `Steer`.
        to: Projection after the operation; 0 removes the direction.
        tokens: Tokens to act on, as in `Steer`.

    Raises:
        InterventionError: If a value is malformed or not finite.
    """

    layer: int
    direction: Float32[np.ndarray, "d"]
    to: float = 0.0
    tokens: str = "all"

    def __repr__(self) -> str:
        """Return the fields on one line, the direction by its shape."""
        return brief(self)

    def __post_init__(self) -> None:
        """Check the values, and scale the direction to length 1."""
        _check(self)
        _finite(self, "to", self.to)


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """Hold the projection on a direction within bounds (activation capping, section 5 of the paper).

    With a floor alone: h - min(<h, v> - floor, 0) * v. A token within the bounds keeps its bits. Caps that
    are next to each other in a plan at one layer hold together: a token is moved by the shortest way to where
    all of them are satisfied.

    Attributes:
        layer: Block index.
        direction: Direction, as in `Steer`.
        floor: Minimum projection on the unit direction, or None.
        ceiling: Maximum projection on the unit direction, or None.
        tokens: Tokens to act on, as in `Steer`.

    Raises:
        InterventionError: If a value is malformed or not finite, there is no bound, or the floor is
            above the ceiling.
    """

    layer: int
    direction: Float32[np.ndarray, "d"]
    floor: float | None = None
    ceiling: float | None = None
    tokens: str = "all"

    def __repr__(self) -> str:
        """Return the fields on one line, the direction by its shape."""
        return brief(self)

    def __post_init__(self) -> None:
        """Check the values, and scale the direction to length 1."""
        _check(self)
        for name in ("floor", "ceiling"):
            if getattr(self, name) is not None:
                _finite(self, name, getattr(self, name))
        if self.floor is None and self.ceiling is None:
            raise InterventionError(f"{_name(self)} has no bound", hint="give a floor, a ceiling, or both")
        if self.floor is not None and self.ceiling is not None and self.floor > self.ceiling:
            raise InterventionError(
                f"{_name(self)} has a floor of {self.floor} above its ceiling of {self.ceiling}",
                hint="exchange them, or turn the direction round",
            )


Op = Steer | Ablate | Cap
"""An operation of a plan."""


def turn_of(tokens: str) -> int | None:
    """Return N of "turn:N", or None for other tokens."""
    return int(tokens.removeprefix("turn:")) if tokens.startswith("turn:") else None


def unit_direction(direction: Any, name: str) -> Float32[np.ndarray, "d"]:
    """Return a direction at length 1, float32.

    Raises:
        InterventionError: If it is not one real vector, holds a value that is not finite, or is zero.
    """
    vector = np.asarray(direction)
    if vector.ndim != 1 or not vector.size or vector.dtype.kind not in "fiu":
        raise InterventionError(
            f"{name}: its direction has shape {vector.shape} and dtype {vector.dtype}",
            hint="give one vector of real numbers, as wide as the model's residual stream",
        )
    vector = vector.astype(np.float64)
    if not np.isfinite(vector).all():
        raise InterventionError(
            f"{name}: {int((~np.isfinite(vector)).sum())} values of its direction are not finite",
            hint="find where the direction was made; NaN and infinity cannot be applied",
        )
    length = float(np.linalg.norm(vector))
    if length == 0 or not math.isfinite(length):
        raise InterventionError(
            f"{name}: its direction has length {length}", hint="give a direction other than zero"
        )
    # A direction of length 1 keeps its bits, because the digest depends on them.
    unit = (vector if abs(length - 1) < _UNIT else vector / length).astype(np.float32)
    unit.setflags(write=False)
    return unit


def _check(op: Op) -> None:
    name = _name(op)
    if (
        isinstance(op.layer, bool)
        or not isinstance(op.layer, int | np.integer)
        or not 0 <= op.layer < _MAX_LAYER
    ):
        raise InterventionError(
            f"{type(op).__name__} has the layer {shown(op.layer)}",
            hint="layers are 0-based block indices, 0 and up",
        )
    if not isinstance(op.tokens, str) or not _TOKENS.fullmatch(op.tokens):
        raise InterventionError(
            f"{name} acts on {shown(op.tokens)}",
            hint=f"give all, prompt, response, {', '.join(REPLY_PARTS)} or turn:N, N a message's index",
        )
    object.__setattr__(op, "layer", int(op.layer))
    object.__setattr__(op, "direction", unit_direction(op.direction, name))


def _finite(op: Op, field: str, value: Any) -> None:
    """Store a number as a float, after checking that float32, in which it is applied, can hold it.

    Raises:
        InterventionError: If it is not a finite real number, or float32 cannot hold it.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        number = float(value) if real else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InterventionError(f"{_name(op)} has {field} {shown(value)}", hint="give a finite number")
    check_number(_name(op), field, number, "float32")
    if field in type(op).__dataclass_fields__:
        object.__setattr__(op, field, number)


def check_number(name: str, field: str, number: float, dtype: str) -> None:
    """Check that a dtype can hold a number.

    Raises:
        InterventionError: If it cannot; the message names both.
    """
    most = DTYPE_MAX.get(dtype, DTYPE_MAX["float32"])
    if abs(number) > most:
        raise InterventionError(
            f"{name} has {field} {number:g}, and {dtype} ends at {most:g}",
            hint="give a number of the size of the model's activations; leave out a bound that never holds",
        )


def shown(value: Any) -> str:
    """Return a value's representation for an error, shortened, whatever the value is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _name(op: Op) -> str:
    return f"{type(op).__name__} at layer {op.layer}"
