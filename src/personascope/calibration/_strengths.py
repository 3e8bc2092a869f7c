"""Steering conditions of a sweep over layers and strengths, and which strengths are a sensible dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from personascope.directions import CONTROLS, N_CONTROLS, ControlKind
from personascope.errors import UsageError
from personascope.evals import Condition, steering_conditions
from personascope.space import PersonaMap

OVERDOSE = 1.0
"""Strength beyond which steering adds more to a token than the token is long."""


def default_layers(persona_map: PersonaMap) -> tuple[int, ...]:
    """Return a map's middle layer and one an eighth of the depth to each side, as far as there are such."""
    middle, step = persona_map.middle_layer, max(1, round(persona_map.n_layers / 8))
    around = (middle - step, middle, middle + step)
    return tuple(layer for layer in around if 0 <= layer < persona_map.n_layers)


def check_dose(strengths: Sequence[float], *, anyway: bool = False) -> None:
    """Check that strengths have one sign and are not beyond the model's means.

    A strength is a fraction of the layer's mean norm over the tokens of what both speakers say. The first
    token of a sequence, an attention sink with a norm many times as large, is not among them.

    Raises:
        UsageError: If there is no strength, one is 0, the signs differ, or one exceeds the norm of the layer
            and ``anyway`` is False.
    """
    listed = ", ".join(f"{strength:g}" for strength in strengths)
    if not strengths or 0 in strengths or len({strength > 0 for strength in strengths}) > 1:
        raise UsageError(
            f"the strengths of a sweep are {listed or 'missing'}",
            hint="give those of one sign: 0.05,0.1 toward the Assistant, or -0.05,-0.1 away from it",
        )
    largest = max(strengths, key=abs)
    if abs(largest) > OVERDOSE and not anyway:
        raise UsageError(
            f"the strength {largest:g} adds {abs(largest):g} times the length of a token to it",
            hint="a tenth changes most models; --anyway to sweep it all the same",
        )


def steering_sweep(
    persona_map: PersonaMap,
    layers: Sequence[int],
    strengths: Sequence[float],
    norms: Float[np.ndarray, "L"],
    *,
    n_random: int = N_CONTROLS,
    controls: Sequence[ControlKind] = CONTROLS,
    seed: int = 0,
) -> tuple[Condition, ...]:
    """Return the axis at every layer and strength, each with its controls.

    Args:
        persona_map: Map with the axis.
        layers: Layers to steer at, one at a time.
        strengths: Steering strengths as fractions of the layer's norm, of one sign.
        norms: Mean norm of the residual stream at each layer.
        n_random: Number of controls of each kind.
        controls: Kinds of controls.
        seed: Random seed of the controls.

    Raises:
        UsageError: If a layer or strength is given twice, the map has no such layer, or role-span controls
            are asked for and the map has too few role vectors.
    """
    if len(set(layers)) < len(layers):
        raise UsageError(f"the layers are {', '.join(map(str, layers))}", hint="give each once")
    found: list[Condition] = []
    for layer in layers:
        _, *steered = steering_conditions(
            persona_map,
            strengths,
            norms,
            layer=layer,
            n_random=n_random,
            controls=controls,
            seed=seed,
        )
        found.extend(
            replace(
                condition,
                name=_at(condition.name, layer),
                control_of=tuple(_at(name, layer) for name in condition.control_of),
            )
            for condition in steered
        )
    return tuple(found)


def _at(name: str, layer: int) -> str:
    return f"{name}, layer {layer}"
