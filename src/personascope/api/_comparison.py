"""Conditions that an evaluation compares: steering strengths or plans, each with controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from personascope.api._mapped_model import MappedModel
from personascope.calibration import random_control
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
        n_random: Number of random-direction controls for each.
        layer: Layer to steer at; None for the map's middle layer.
    """

    strengths: tuple[float, ...] = STRENGTHS
    plans: Mapping[str, Plan] = field(default_factory=dict)
    n_random: int = 3
    layer: int | None = None

    def __post_init__(self) -> None:
        """Check the strengths.

        Raises:
            UsageError: If a strength is given twice, or none but 0 is given.
        """
        if not self.plans:
            check_strengths(self.strengths)

    def conditions(
        self,
        mapped: MappedModel,
        *,
        engine: LocalEngine | None = None,
        model: PlanModel | None = None,
        seed: int = 0,
    ) -> tuple[Condition, ...]:
        """Return the conditions; the norms that strengths refer to are measured if they are not stored.

        Args:
            mapped: Mapped model.
            engine: Engine of the steered model, if it is another one (a base model).
            model: Model of the plans, if it is another one.
            seed: Random seed of the random directions.
        """
        if self.plans:
            return (PLAIN, *with_controls(mapped, self.plans, self.n_random, seed=seed))
        return steering_conditions(
            mapped.persona_map,
            self.strengths,
            mapped.norms(engine),
            layer=self.layer,
            n_random=self.n_random,
            seed=seed,
            model=model,
        )


def with_controls(
    mapped: MappedModel, plans: Mapping[str, Plan], n_random: int, *, seed: int = 0
) -> list[Condition]:
    """Return plans as conditions, each followed by its controls on random directions.

    The floors of a cap's control are set on the run's kept responses, so that it would fire equally often.

    Raises:
        UsageError: If a plan has no such control.
        EvaluationError: If a plan has caps and the run kept no response.
    """
    made: list[Condition] = []
    for name, plan in plans.items():
        made.append(Condition(name, "plan", plan))
        for index in range(n_random):
            control = random_control(mapped.layout.folder, plan, index, seed=seed)
            made.append(Condition(f"random {index} of {name}", "random", control, None, index, (name,)))
    return made
