"""What an evaluation compares: steering strengths or plans, each with its controls."""

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
    """Conditions that are asked for: no plan, and strengths along the axis or plans, each with controls.

    Attributes:
        strengths: Steering strengths, fractions of the layer's norm; not used where there are plans.
        plans: Name -> plan, instead of strengths.
        n_random: Random directions beside each.
        layer: Layer that is steered; the map's middle layer for None.
    """

    strengths: tuple[float, ...] = STRENGTHS
    plans: Mapping[str, Plan] = field(default_factory=dict)
    n_random: int = 3
    layer: int | None = None

    def __post_init__(self) -> None:
        """Check the strengths.

        Raises:
            UsageError: If a strength is given twice, or none but 0.
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
        """Return the conditions; strengths are fractions of the engine's norm, which is measured once.

        Args:
            mapped: The mapped model.
            engine: The model that is steered, if it is another one: a base model.
            model: That model, as plans name it.
            seed: Random seed of the directions.
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
    """Return plans as conditions, each followed by itself on random directions.

    A cap's control has floors at which it would fire as often: they are made of the responses that the
    run kept.

    Raises:
        UsageError: If a plan has no such control, or no response was kept.
    """
    made: list[Condition] = []
    for name, plan in plans.items():
        made.append(Condition(name, "plan", plan))
        for index in range(n_random):
            control = random_control(mapped.layout.folder, plan, index, seed=seed)
            made.append(Condition(f"random {index} of {name}", "random", control, None, index, (name,)))
    return made
