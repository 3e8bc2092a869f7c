"""Floors of control caps: a random direction is capped so that it fires as often as the plan's own caps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personascope.calibration._responses import Sample
from personascope.directions import on_random_direction, random_unit
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan


def matching_floors(
    sample: Sample, caps: Sequence[Cap], random_index: int, *, seed: int = 0
) -> dict[int, float]:
    """Return, for each layer, the floor on a random direction at the percentile of the cap's floor.

    The percentile is taken among role responses' projections on the cap's own direction.

    Args:
        sample: Kept responses of the model's map.
        caps: Caps with a floor, at most one per layer.
        random_index: Index of the random direction.
        seed: Random seed.

    Raises:
        UsageError: If a layer has two caps, or a cap has no floor.
    """
    found = sample.persona_map
    own = np.array(found.axis, np.float64)
    for cap in caps:
        own[cap.layer] = cap.direction
    along = sample.project(own)
    random = sample.project(np.tile(random_unit(found.d_model, random_index, seed=seed), (found.n_layers, 1)))
    floors: dict[int, float] = {}
    for cap in caps:
        if cap.layer in floors or cap.floor is None:
            raise UsageError(
                f"the caps of layer {cap.layer} have no control on a random direction",
                hint="a control is made for one cap with a floor at each layer",
            )
        percentile = float((along.values[:, cap.layer] < cap.floor).mean() * 100)
        floors[cap.layer] = random.floor_at_axis_percentile(percentile, cap.layer)
    return floors


def random_control(run: Path, plan: Plan, random_index: int, *, seed: int = 0) -> Plan:
    """Return the plan on a random direction instead of its own; the floors of caps are `matching_floors`.

    Args:
        run: Run folder of the model's map, whose kept responses are read if the plan has caps.
        plan: Plan of steering, or of caps with a floor, at most one per layer.
        random_index: Index of the random direction.
        seed: Random seed.

    Raises:
        UsageError: If the plan has no such control.
        EvaluationError: If the plan has caps and the run kept no response.
    """
    caps = [op for op in plan.ops if isinstance(op, Cap)]
    floors = matching_floors(Sample.open(run), caps, random_index, seed=seed) if caps else None
    return on_random_direction(plan, random_index, seed=seed, floors=floors)
