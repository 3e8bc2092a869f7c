"""Random plans, and a plain way to apply one: op by op, token by token, in float64."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from personascope.interventions import Ablate, Cap, Op, Plan, Steer, TokenSpans

PARTS = ("all", "prompt", "response")


def unit(rng: np.random.Generator, d: int) -> np.ndarray:
    v = rng.standard_normal(d)
    return v / np.linalg.norm(v)


def random_op(rng: np.random.Generator, layer: int, d: int, *, tokens: str = "all") -> Op:
    kind = rng.integers(3)
    if kind == 0:
        return Steer(layer, unit(rng, d), float(rng.normal()), 3.0, tokens)
    if kind == 1:
        return Ablate(layer, unit(rng, d), float(rng.normal()), tokens)
    low, high = sorted(rng.normal(size=2).tolist())
    return Cap(layer, unit(rng, d), *[(low, None), (None, high), (low, high)][rng.integers(3)], tokens)


def random_plan(rng: np.random.Generator, layers: int, d: int, n_ops: int, parts: tuple[str, ...]) -> Plan:
    return Plan(
        tuple(
            random_op(rng, int(rng.integers(layers)), d, tokens=str(rng.choice(parts))) for _ in range(n_ops)
        )
    )


def apply_plainly(plan: Plan, layer: int, h: np.ndarray, position: int, extent: TokenSpans) -> np.ndarray:
    """Return one token's activation [d] after a layer's operations; caps that stand together by SLSQP."""
    h = h.astype(np.float64)

    def acts(op: Op) -> bool:
        start, stop = extent.bounds(op.tokens)
        return start <= position < stop

    for stage in plan.stages(layer):
        active = [op for op in stage if acts(op)]
        if not active:
            continue
        first = active[0]
        v = first.direction.astype(np.float64)
        if isinstance(first, Steer):
            h = h + first.strength * (first.norm or 1.0) * v
        elif isinstance(first, Ablate):
            h = h + (first.to - h @ v) * v
        else:
            h = nearest(h, [op for op in active if isinstance(op, Cap)])
    return h


def nearest(h: np.ndarray, caps: list[Cap]) -> np.ndarray:
    """Return the nearest point that satisfies all caps, by a general solver."""
    directions = np.stack([cap.direction for cap in caps]).astype(np.float64)
    limits = []
    for i, cap in enumerate(caps):
        if cap.floor is not None:
            limits.append((directions[i], cap.floor, 1.0))
        if cap.ceiling is not None:
            limits.append((directions[i], cap.ceiling, -1.0))
    if all(sign * (v @ h - bound) >= 0 for v, bound, sign in limits):
        return h
    found = minimize(
        lambda x: 0.5 * ((x - h) ** 2).sum(),
        h,
        jac=lambda x: x - h,
        constraints=[
            {
                "type": "ineq",
                "fun": lambda x, v=v, b=b, s=s: s * (v @ x - b),
                "jac": lambda _x, v=v, s=s: s * v,
            }
            for v, b, s in limits
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return found.x
