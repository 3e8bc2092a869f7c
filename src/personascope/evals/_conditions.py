"""Conditions: no plan, a plan of the axis, and the same plan on random directions as its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from personascope.engines import request_seed
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan, PlanModel, Steer
from personascope.space import PersonaMap

Kind = Literal["plain", "axis", "random", "plan"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Under what an evaluation is run.

    Attributes:
        name: Unique in a run; stands in tables.
        kind: "plain" for no plan, "axis" for a plan along the axis, "random" for its control on a
            random direction, "plan" for a plan that the user brought.
        plan: The plan, or None.
        strength: Of steering, as a fraction of the norm; None for other plans.
        draw: Number of the random direction; None without one.
        of: Names of the conditions whose control this is; empty for others.
    """

    name: str
    kind: Kind
    plan: Plan | None = None
    strength: float | None = None
    draw: int | None = None
    of: tuple[str, ...] = ()


PLAIN = Condition("plain", "plain", strength=0.0)


def plan_model(found: PersonaMap) -> PlanModel:
    """Return the model of a map, as plans name it."""
    model = found.model
    return PlanModel(model.id, model.revision, model.n_layers, model.d_model)


def random_unit(d_model: int, draw: int, *, seed: int = 0) -> Float[np.ndarray, "d"]:
    """Return a direction drawn uniformly from the sphere; the same at every layer for one draw."""
    vector = np.random.default_rng(request_seed(seed, f"random direction {draw}")).standard_normal(d_model)
    return vector / np.linalg.norm(vector)


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


def steering_plan(
    found: PersonaMap,
    strength: float,
    norms: Float[np.ndarray, "L"],
    *,
    layer: int | None = None,
    direction: Float[np.ndarray, "d"] | None = None,
    model: PlanModel | None = None,
) -> Plan:
    """Return the plan that steers along the axis at one layer, at every token (section 3.2).

    Args:
        found: The map.
        strength: Fraction of the layer's mean norm; positive toward the Assistant.
        norms: Mean norm of the residual stream at each layer, over ordinary chats.
        layer: The map's middle layer by default.
        direction: Instead of the axis.
        model: Instead of the map's model, for a base model that is steered with another one's axis.
    """
    at = found.middle_layer if layer is None else layer
    what = found.unit_axis(at) if direction is None else direction
    name = f"{'axis' if direction is None else 'direction'} {strength:+g} at layer {at}"
    return Plan((Steer(at, what, strength, float(norms[at])),), model or plan_model(found), name)


def steering_conditions(
    found: PersonaMap,
    strengths: Sequence[float],
    norms: Float[np.ndarray, "L"],
    *,
    layer: int | None = None,
    draws: int = 3,
    seed: int = 0,
    model: PlanModel | None = None,
) -> tuple[Condition, ...]:
    """Return no plan, the axis at every strength, and random directions at every length that it has.

    A strength of 0 is the condition without a plan. A random direction is as likely as its opposite, so
    one set of them is the control of both signs of a strength.

    Raises:
        UsageError: If a strength is given twice, or none but 0.
    """
    if len(set(strengths)) < len(strengths) or not any(strengths):
        raise UsageError(
            f"the strengths are {', '.join(f'{s:g}' for s in strengths)}",
            mend="give each once, and one but 0",
        )
    conditions = [PLAIN]
    for strength in sorted(s for s in strengths if s):
        plan = steering_plan(found, strength, norms, layer=layer, model=model)
        conditions.append(Condition(f"axis {strength:+g}", "axis", plan, strength))
    for size in sorted({abs(s) for s in strengths if s}):
        of = tuple(c.name for c in conditions if c.strength and abs(c.strength) == size)
        for draw in range(draws):
            direction = random_unit(found.d_model, draw, seed=seed)
            control = steering_plan(found, size, norms, layer=layer, direction=direction, model=model)
            conditions.append(Condition(f"random {draw} at {size:g}", "random", control, size, draw, of))
    return tuple(conditions)


def randomised(plan: Plan, draw: int, *, seed: int = 0, floors: dict[int, float] | None = None) -> Plan:
    """Return a plan with one random direction in place of its own, as a control of the same length.

    Args:
        plan: A plan of steering or of caps with a floor.
        draw: Number of the random direction.
        seed: Of the draw.
        floors: Layer -> floor on the random direction, for caps; set it so that the cap has the same
            chance to fire (`calibration.random_floors`).

    Raises:
        UsageError: If a cap has no floor here, or the plan has other operations.
    """
    direction = random_unit(plan.d_model, draw, seed=seed)
    ops: list[Steer | Cap] = []
    for op in plan.ops:
        if isinstance(op, Steer):
            ops.append(Steer(op.layer, direction, op.strength, op.norm, op.where))
        elif (
            isinstance(op, Cap) and op.floor is not None and op.ceiling is None and op.layer in (floors or {})
        ):
            ops.append(Cap(op.layer, direction, floor=(floors or {})[op.layer], where=op.where))
        else:
            raise UsageError(
                f"{type(op).__name__} at layer {op.layer} has no random control here",
                mend="steering has one, and a cap with a floor, given its floor on the random direction",
            )
    return Plan(tuple(ops), plan.model, f"random {draw} of {plan.name}")
