"""Make a plan that steers along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from personascope.errors import InteropError
from personascope.interventions import Plan, PlanModel, Steer


def axis_plan(
    axis: Float[np.ndarray, "L d"],
    layers: int | Sequence[int],
    strength: float,
    *,
    norm: float | Mapping[int, float] | None = None,
    tokens: str = "all",
    model: PlanModel | None = None,
) -> Plan:
    """Return the plan that steers along an axis (section 3.2 of the paper).

    Args:
        axis: Rows of any length, row l for layer l. With the Assistant Axis a positive strength is toward the
            Assistant.
        layers: Layer or layers to steer at. Over several layers the steering adds up through the model.
        strength: Fraction of the norm to add at each layer.
        norm: Mean norm of the residual stream, one for all layers or one for each; None makes the strength a
            raw length.
        tokens: Tokens to act on, as in `Steer`.
        model: Model of the axis, if known.

    Raises:
        InteropError: If there is no layer, or a layer has no row or no norm.
        InterventionError: If a value is not finite.
    """
    chosen = [layers] if isinstance(layers, int) else list(layers)
    if not chosen:
        raise InteropError("no layer to steer at is named", hint=f"choose of 0 to {len(axis) - 1}")
    ops: list[Steer] = []
    for layer in chosen:
        if not 0 <= layer < len(axis):
            raise InteropError(
                f"the axis has no layer {layer}", hint=f"choose 0 to {len(axis) - 1}; layers are 0-based"
            )
        if isinstance(norm, Mapping) and layer not in norm:
            raise InteropError(f"there is no norm for layer {layer}", hint="give a norm for each layer")
        size = norm[layer] if isinstance(norm, Mapping) else norm
        ops.append(Steer(layer, axis[layer], strength, size, tokens))
    unit = "" if norm is None else " of the norm"
    at = ", ".join(map(str, chosen))
    return Plan(tuple(ops), model, f"axis {strength:+g}{unit} at layer {at}")
