"""Random directions and plans along them, as controls of a plan's effect."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from personascope.engines import request_seed
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan, Steer


def random_unit(d_model: int, random_index: int, *, seed: int = 0) -> Float[np.ndarray, "d"]:
    """Return a random unit direction, uniform on the sphere, determined by index and seed."""
    vector = np.random.default_rng(request_seed(seed, f"random direction {random_index}")).standard_normal(
        d_model
    )
    return vector / np.linalg.norm(vector)


def on_random_direction(
    plan: Plan, random_index: int, *, seed: int = 0, floors: dict[int, float] | None = None
) -> Plan:
    """Return a copy of a plan with a random direction instead of its own, as a control of equal strength.

    Args:
        plan: Plan of steering, or of caps with a floor.
        random_index: Index of the random direction.
        seed: Random seed.
        floors: Layer -> floor on the random direction, for caps; `calibration.matching_floors` gives floors
            at which the cap fires equally often.

    Raises:
        UsageError: If a cap has no floor or none in ``floors``, or the plan has other operations.
    """
    direction = random_unit(plan.d_model, random_index, seed=seed)
    ops: list[Steer | Cap] = []
    for op in plan.ops:
        if isinstance(op, Steer):
            ops.append(Steer(op.layer, direction, op.strength, op.norm, op.tokens))
        elif (
            isinstance(op, Cap) and op.floor is not None and op.ceiling is None and op.layer in (floors or {})
        ):
            ops.append(Cap(op.layer, direction, floor=(floors or {})[op.layer], tokens=op.tokens))
        else:
            raise UsageError(
                f"{type(op).__name__} at layer {op.layer} has no random control here",
                hint="steering has one, and a cap with a floor, given its floor on the random direction",
            )
    return Plan(tuple(ops), plan.model, f"random {random_index} of {plan.name}")
