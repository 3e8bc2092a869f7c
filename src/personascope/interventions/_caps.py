"""Caps that hold together: the shortest way to a point where all bounds are satisfied.

For unit directions V [k, d], bounds low and high [k] and projections p = V h, the shortest move is
h + V^T c, where c minimises c^T G c (G = V V^T) under low <= p + G c <= high. The bounds that hold with
equality at the minimum are one of 3^k choices; each choice gives a linear system, and the choice whose
solution keeps all bounds, with multipliers of the right sign, is the answer. k is small: few caps share
a layer. The search is exact, where cyclic projections would only converge.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personascope.errors import InterventionError
from personascope.interventions._ops import Cap

MAX_TOGETHER = 6
"""Caps of one layer that may hold together: 3^6 choices are still solved at once."""

_SINGULAR = 1e-5
_SLACK = 1e-7


class JointCaps:
    """The solver for one set of directions; bounds may differ from token to token."""

    def __init__(self, directions: np.ndarray) -> None:
        """Factor every choice of active bounds.

        Args:
            directions: Unit directions, [k, d].
        """
        unit = directions.astype(np.float64)
        self.k = len(unit)
        self.gram = torch.from_numpy(unit @ unit.T)
        self.gram.fill_diagonal_(1.0)
        self._choices: list[tuple[list[int], Tensor]] = []
        for size in range(1, self.k + 1):
            for chosen in itertools.combinations(range(self.k), size):
                part = self.gram[list(chosen)][:, list(chosen)]
                # Dependent directions need no choice of their own: an independent subset attains the minimum.
                if float(torch.linalg.eigvalsh(part)[0]) > _SINGULAR:
                    self._choices.append((list(chosen), torch.linalg.inv(part)))

    def solve(self, projections: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients c of the move, and whether a solution was found.

        Args:
            projections: [tokens, k] float64.
            low: Floors [tokens, k], -inf where there is none.
            high: Ceilings [tokens, k], inf where there is none.

        Returns:
            c [tokens, k] float64, 0 for tokens within all bounds; found [tokens] bool.
        """
        scale = 1.0 + projections.abs().amax(-1, keepdim=True)
        slack = _SLACK * scale
        best = torch.zeros_like(projections)
        cost = torch.full(projections.shape[:1], torch.inf, dtype=projections.dtype)
        inside = ((projections >= low) & (projections <= high)).all(-1)
        cost[inside] = 0.0
        for chosen, inverse in self._choices:
            below, above = low[:, chosen] - projections[:, chosen], high[:, chosen] - projections[:, chosen]
            for signs in itertools.product((0, 1), repeat=len(chosen)):
                at = torch.tensor(signs, dtype=torch.bool)
                gap = torch.where(at, above, below)
                part = torch.nan_to_num(gap, nan=0.0, posinf=0.0, neginf=0.0) @ inverse
                # A floor pushes up, a ceiling down; any other sign would not be a minimum.
                right = torch.where(at, part <= 0, part >= 0).all(-1) & torch.isfinite(gap).all(-1)
                if not bool(right.any()):
                    continue
                moved = projections + part @ self.gram[chosen]
                fits = ((moved >= low - slack) & (moved <= high + slack)).all(-1)
                price = ((part @ self.gram[chosen][:, chosen]) * part).sum(-1)
                better = right & fits & (price < cost)
                if bool(better.any()):
                    whole = torch.zeros_like(projections)
                    whole[:, chosen] = part
                    best = torch.where(better[:, None], whole, best)
                    cost = torch.where(better, price, cost)
        return best, torch.isfinite(cost)


def bounds_of(caps: Sequence[Cap]) -> tuple[Tensor, Tensor]:
    """Return the floors and the ceilings of caps, [k] float64 each, infinite where there is none."""
    floors = [-np.inf if cap.floor is None else cap.floor for cap in caps]
    ceilings = [np.inf if cap.ceiling is None else cap.ceiling for cap in caps]
    return torch.tensor(floors, dtype=torch.float64), torch.tensor(ceilings, dtype=torch.float64)


def check_together(layer: int, caps: Sequence[Cap]) -> None:
    """Refuse caps of one layer that are too many, or that no activation can satisfy at once.

    Raises:
        InterventionError: Naming the layer and the bounds.
    """
    if len(caps) == 1:
        return
    if len(caps) > MAX_TOGETHER:
        raise InterventionError(
            f"{len(caps)} caps at layer {layer} would have to hold together; {MAX_TOGETHER} can",
            mend="cap fewer directions at that layer, or put another operation between two groups of them",
        )
    solver = JointCaps(np.stack([cap.direction for cap in caps]))
    low, high = (bound[None] for bound in bounds_of(caps))
    # Feasibility does not depend on where a token starts: the move may take it anywhere in the span.
    _, found = solver.solve(torch.zeros_like(low), low, high)
    if not bool(found.all()):
        bounds = "; ".join(f"[{cap.floor}, {cap.ceiling}]" for cap in caps)
        raise InterventionError(
            f"no activation can satisfy the caps of layer {layer} at once: bounds {bounds} on directions "
            "that depend on each other",
            mend="loosen a bound, or drop one of the caps",
        )
