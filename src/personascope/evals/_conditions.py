"""Conditions of an evaluation: no plan, steering along the axis, and controls of the same norm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from personascope.directions import (
    CONTROLS,
    N_CONTROLS,
    ControlKind,
    controls_of,
    kind_label,
    steering_plan,
)
from personascope.errors import UsageError
from personascope.interventions import Plan, PlanModel
from personascope.space import PersonaMap

Kind = Literal["plain", "axis", "random", "plan"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition under which an evaluation is run.

    Attributes:
        name: Name for tables, unique in a run.
        kind: "plain" for no plan, "axis" for steering along the axis, "random" for a control of another
            condition, "plan" for a plan supplied by the user.
        plan: Plan that is applied, or None.
        strength: Steering strength, as a fraction of the activation norm; None for other plans.
        random_index: Index of the control among those of its kind; None for others.
        control_of: Names of the conditions that this one is a control of; empty for others.
        control: Kind of the control's direction, isotropic if a control names none; None for others.
    """

    name: str
    kind: Kind
    plan: Plan | None = None
    strength: float | None = None
    random_index: int | None = None
    control_of: tuple[str, ...] = ()
    control: ControlKind | None = None

    def __post_init__(self) -> None:
        """Take a control without a kind as isotropic, which all were before there were others."""
        if self.kind == "random" and self.control is None:
            object.__setattr__(self, "control", "isotropic")


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
    n_random: int = N_CONTROLS,
    controls: Sequence[ControlKind] = CONTROLS,
    seed: int = 0,
    model: PlanModel | None = None,
) -> tuple[Condition, ...]:
    """Return the condition without a plan, the axis at every strength, and controls at every size.

    A strength of 0 is the condition without a plan. One set of controls serves both signs of a strength: an
    isotropic and a role-span direction are as likely as their opposites. A shuffled axis is not exactly so,
    since the axis has few large coordinates, but the place that such a coordinate goes to is random.

    Args:
        persona_map: Map with the axis.
        strengths: Steering strengths as fractions of the layer's norm.
        norms: Mean norm of the residual stream at each layer.
        layer: Layer to steer at; the map's middle layer by default.
        n_random: Number of controls of each kind.
        controls: Kinds of controls.
        seed: Random seed of the controls.
        model: Model of the plans instead of the map's.

    Raises:
        UsageError: If a strength is given twice, none but 0 is given, or role-span controls are asked for
            and the map has too few role vectors.
    """
    check_strengths(strengths)
    at = persona_map.middle_layer if layer is None else layer
    axis = persona_map.unit_axis(at)
    directions = {
        control: control.direction(axis, at, persona_map)
        for control in controls_of(controls, n_random, seed=seed)
    }
    conditions = [PLAIN]
    for strength in sorted(s for s in strengths if s):
        plan = steering_plan(persona_map, strength, norms, layer=at, model=model)
        conditions.append(Condition(f"axis {strength:+g}", "axis", plan, strength))
    for size in sorted({abs(s) for s in strengths if s}):
        steered = tuple(c.name for c in conditions if c.strength and abs(c.strength) == size)
        for control, direction in directions.items():
            plan = steering_plan(persona_map, size, norms, layer=at, direction=direction, model=model)
            conditions.append(
                Condition(
                    f"{control.name} at {size:g}",
                    "random",
                    plan,
                    size,
                    control.index,
                    steered,
                    control.kind,
                )
            )
    return tuple(conditions)


def control_counts(conditions: Sequence[Condition]) -> str:
    """Return the numbers of conditions and of controls among them, for people.

    Controls multiply what a run costs, so a run says how many it has before it begins.
    """
    counted = Counter(c.control for c in conditions if c.control is not None)
    told = ", ".join(f"{count} {kind_label(kind)}" for kind, count in counted.items())
    controls = f", {counted.total()} of them controls ({told})" if told else ""
    return f"{len(conditions)} conditions{controls}"
