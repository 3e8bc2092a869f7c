"""What an evaluation compares: steering strengths or plans, each with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personascope import calibration, directions
from personascope.cli._engine import run_folder
from personascope.cli._options import numbers
from personascope.directions import plan_model
from personascope.evals import PLAIN, Condition, steering_conditions
from personascope.interventions import Plan

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.interventions import PlanModel
    from personascope.space import PersonaMap


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was asked for, read and checked before a model is loaded.

    Attributes:
        strengths: Steering strengths; not used where there are plans.
        plans: Name and plan of each.
        draws: Random directions beside each.
        layer: Layer that is steered; None for the map's middle layer.
        seed: Random seed of the directions.
    """

    strengths: tuple[float, ...]
    plans: tuple[tuple[str, Plan], ...]
    draws: int
    layer: int | None = None
    seed: int = 0

    @staticmethod
    def read(
        strengths: str, plans: Sequence[Path] | None, draws: int, layer: int | None = None, seed: int = 0
    ) -> Comparison:
        """Read the options of a command.

        Raises:
            UsageError: If a strength is no number.
            PlanError: If a plan cannot be read.
        """
        loaded = [(path, Plan.load(path)) for path in plans or ()]
        named = tuple((plan.name or path.name, plan) for path, plan in loaded)
        return Comparison(tuple(numbers(strengths, "strengths")), named, draws, layer, seed)

    def conditions(
        self, persona_map: PersonaMap, engine: LocalEngine, run: Path, *, target: PlanModel | None = None
    ) -> tuple[Condition, ...]:
        """Return the conditions for a model; strengths are fractions of its norm, which is measured once.

        Args:
            persona_map: The map.
            engine: The model that is steered.
            run: Run folder of the map.
            target: The model of the plans, if it is not the map's.
        """
        if self.plans:
            return (PLAIN, *self.with_controls(run))
        other = target is not None and target != plan_model(persona_map)
        home = run_folder(run) / "base" if other else run_folder(run)
        home.mkdir(exist_ok=True)
        return steering_conditions(
            persona_map,
            self.strengths,
            directions.norms_for(engine, home).mean,
            layer=self.layer,
            draws=self.draws,
            seed=self.seed,
            model=target,
        )

    def with_controls(self, run: Path) -> list[Condition]:
        """Return the plans, each followed by itself on random directions."""
        made: list[Condition] = []
        for name, plan in self.plans:
            made.append(Condition(name, "plan", plan))
            for draw in range(self.draws):
                control = calibration.random_control(run_folder(run), plan, draw, seed=self.seed)
                made.append(Condition(f"random {draw} of {name}", "random", control, draw=draw, of=(name,)))
        return made


def evaluation_folder(run: Path, out_folder: Path | None, name: str) -> Path:
    """Return the folder of an evaluation."""
    return out_folder or run_folder(run) / "evals" / name
