"""Steering plans along a direction of a map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from personascope.interventions import Plan, PlanModel, Steer
from personascope.space import PersonaMap


def plan_model(persona_map: PersonaMap) -> PlanModel:
    """Return the map's model in the form that plans use."""
    model = persona_map.model
    return PlanModel(model.id, model.revision, model.n_layers, model.d_model, model.chat_date)


def steering_plan(
    persona_map: PersonaMap,
    strength: float,
    norms: Float[np.ndarray, "L"],
    *,
    layer: int | None = None,
    direction: Float[np.ndarray, "d"] | None = None,
    model: PlanModel | None = None,
) -> Plan:
    """Return the plan that steers along the axis at one layer, at every token (section 3.2).

    Args:
        persona_map: Map with the axis.
        strength: Steering strength as a fraction of the layer's mean norm; positive toward the Assistant.
        norms: Mean norm of the residual stream at each layer, over ordinary chats.
        layer: Layer to steer at; the map's middle layer by default.
        direction: Direction to use instead of the axis.
        model: Model of the plan instead of the map's, for a base model that is steered with another model's
            axis.
    """
    at = persona_map.middle_layer if layer is None else layer
    what = persona_map.unit_axis(at) if direction is None else direction
    name = f"{'axis' if direction is None else 'direction'} {strength:+g} at layer {at}"
    return Plan((Steer(at, what, strength, float(norms[at])),), model or plan_model(persona_map), name)
