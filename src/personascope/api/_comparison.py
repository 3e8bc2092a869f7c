"""Conditions that an evaluation compares: steering strengths or plans, each with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from personascope.api._mapped_model import MappedModel
from personascope.calibration import control_plans
from personascope.directions import (
    CONTROLS,
    N_CONTROLS,
    ControlKind,
    controls_of,
    read_kinds,
    require_roles,
)
from personascope.evals import PLAIN, Condition, check_strengths, steering_conditions
from personascope.interventions import Plan, PlanModel

if TYPE_CHECKING:
    from personascope.engines import LocalEngine

STRENGTHS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Requested conditions: no plan, and strengths along the axis or plans, each with controls.

    Attributes:
        strengths: Steering strengths as fractions of the layer's norm; ignored if there are plans.
        plans: Name -> plan, to compare instead of strengths.
        n_random: Number of controls of each kind, for each plan or strength.
        layer: Layer to steer at; None for the map's middle layer.
        controls: Kinds of controls: "isotropic", "shuffled", "role-span".
    """

    strengths: tuple[float, ...] = STRENGTHS
    plans: Mapping[str, Plan] = field(default_factory=dict)
    n_random: int = N_CONTROLS
    layer: int | None = None
    controls: Sequence[str] = CONTROLS

    def __post_init__(self) -> None:
        """Check the strengths and the kinds of controls.

        Raises:
            UsageError: If a strength or a kind is given twice, a kind is unknown, or no strength but 0 is
                given.
        """
        object.__setattr__(self, "controls", read_kinds(self.controls))
        if not self.plans:
            check_strengths(self.strengths)

    def conditions(
        self,
        mapped: MappedModel,
        *,
        engine: LocalEngine | None = None,
        model: PlanModel | None = None,
        norms: np.ndarray | None = None,
        seed: int = 0,
    ) -> tuple[Condition, ...]:
        """Return the conditions; the norms that strengths refer to are measured if they are not stored.

        Args:
            mapped: Mapped model.
            engine: Engine of the steered model, if it is another one (a base model).
            model: Model of the plans, if it is another one.
            norms: Norms that strengths refer to, [L], instead of those of the mapped model.
            seed: Random seed of the controls.

        Raises:
            UsageError: If a plan has no such control, or the map has too few role vectors.
        """
        kinds = checked_kinds(mapped, self.controls, self.n_random)
        if self.plans:
            return (PLAIN, *with_controls(mapped, self.plans, self.n_random, kinds, seed=seed))
        return steering_conditions(
            mapped.persona_map,
            self.strengths,
            mapped.norms(engine) if norms is None else norms,
            layer=self.layer,
            n_random=self.n_random,
            controls=kinds,
            seed=seed,
            model=model,
        )


def checked_kinds(mapped: MappedModel, kinds: Sequence[str], n_random: int) -> tuple[ControlKind, ...]:
    """Return kinds of controls, after checking that the map has what they are made of.

    Raises:
        UsageError: If a kind is unknown or given twice, or the map has too few role vectors for role-span
            controls.
    """
    found = read_kinds(kinds)
    if n_random and "role_span" in found:
        require_roles(mapped.persona_map)
    return found


def with_controls(
    mapped: MappedModel,
    plans: Mapping[str, Plan],
    n_random: int,
    kinds: Sequence[ControlKind] = CONTROLS,
    *,
    seed: int = 0,
) -> list[Condition]:
    """Return plans as conditions, each followed by its controls.

    The floors of a cap's control are set on the run's kept responses, so that it would fire equally often.

    Raises:
        UsageError: If a plan has no such control, or the map has too few role vectors.
        EvaluationError: If a plan has caps and the run kept no response.
    """
    controls = controls_of(kinds, n_random, seed=seed)
    made: list[Condition] = []
    for name, plan in plans.items():
        made.append(Condition(name, "plan", plan))
        along = control_plans(mapped.layout.folder, mapped.persona_map, plan, controls)
        made += [
            Condition(f"{control.name} of {name}", "random", one, None, control.index, (name,), control.kind)
            for control, one in zip(controls, along, strict=True)
        ]
    return made
