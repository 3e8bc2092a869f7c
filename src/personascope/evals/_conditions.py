"""Conditions of an evaluation: no plan, steering along the axis, and random directions as controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from personascope.directions import random_unit, steering_plan
from personascope.errors import UsageError
from personascope.interventions import Plan, PlanModel
from personascope.space import PersonaMap

Kind = Literal["plain", "axis", "random", "plan"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition under which an evaluation is run.

    Attributes:
        name: Name for tables, unique in a run.
        kind: "plain" for no plan, "axis" for steering along the axis, "random" for its control on a random
            direction, "plan" for a plan supplied by the user.
        plan: Plan that is applied, or None.
        strength: Steering strength, as a fraction of the activation norm; None for other plans.
        random_index: Index of the random direction; None without one.
        control_of: Names of the conditions that this one is a control of; empty for others.
    """

    name: str
    kind: Kind
    plan: Plan | None = None
    strength: float | None = None
    random_index: int | None = None
    control_of: tuple[str, ...] = ()


PLAIN = Condition("plain", "plain", strength=0.0)


def check_strengths(strengths: Sequence[float]) -> None:
    """Check that the strengths are distinct and not all 0.

    Raises:
        UsageError: If a strength is given twice, or none but 0 is given.
    """
    if len(set(strengths)) < len(strengths) or not any(strengths):
        raise UsageError(
            f"the strengths are {', '.join(f'{s:g}' for s in strengths)}",
            hint="give each once, and one but 0",
        )


def steering_conditions(
    persona_map: PersonaMap,
    strengths: Sequence[float],
    norms: Float[np.ndarray, "L"],
    *,
    layer: int | None = None,
    n_random: int = 3,
    seed: int = 0,
    model: PlanModel | None = None,
) -> tuple[Condition, ...]:
    """Return the condition without a plan, the axis at every strength, and random directions at every size.

    A strength of 0 is the condition without a plan. A random direction is as likely as its opposite, so one
    set of them is the control of both signs of a strength.

    Raises:
        UsageError: If a strength is given twice, or none but 0 is given.
    """
    check_strengths(strengths)
    conditions = [PLAIN]
    for strength in sorted(s for s in strengths if s):
        plan = steering_plan(persona_map, strength, norms, layer=layer, model=model)
        conditions.append(Condition(f"axis {strength:+g}", "axis", plan, strength))
    for size in sorted({abs(s) for s in strengths if s}):
        steered = tuple(c.name for c in conditions if c.strength and abs(c.strength) == size)
        for draw in range(n_random):
            direction = random_unit(persona_map.d_model, draw, seed=seed)
            control = steering_plan(persona_map, size, norms, layer=layer, direction=direction, model=model)
            conditions.append(Condition(f"random {draw} at {size:g}", "random", control, size, draw, steered))
    return tuple(conditions)
