"""Solve caps that hold together: find the shortest move to a point where all bounds are satisfied.

Unit directions V [k, d] are V = L Q, with orthonormal rows Q [r, d] of their span. For bounds low and high
[k] and projections p = V h, the shortest move is h + Q^T y, where y is the shortest vector under low <= p + L
y <= high. The bounds that hold with equality at the minimum are one of 3^k choices. Each choice gives a
linear system, and the answer is the choice whose solution keeps all bounds with multipliers of the right
sign. k is small, since few caps share a layer. The search is exact, whereas cyclic projections only converge.
It stays exact for nearly parallel directions, where a sum of V's rows would take huge coefficients that
cancel and y does not.
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
"""Maximum number of caps of one layer that hold together; 3^6 choices are still solved at once."""

_DEPENDENT = 1e-6
"""Singular value below which directions count as dependent: float32 knows them to 1e-7."""

_SLACK = 1e-7


class JointCaps:
    """Solver of joint caps for one set of directions; bounds may differ from token to token.

    Attributes:
        directions: Unit directions V, [k, d] float64.
        basis: Orthonormal rows Q that span the directions, [r, d] float32.
    """

    def __init__(self, directions: np.ndarray) -> None:
        """Factorize every choice of active bounds.

        Args:
            directions: Unit directions V, [k, d].
        """
        self.directions = torch.from_numpy(directions.astype(np.float64))
        _, sizes, rows = torch.linalg.svd(self.directions, full_matrices=False)
        basis = rows[sizes > _DEPENDENT]
        self.basis = basis.float()
        self._loads = self.directions @ basis.T
        self._choices: list[tuple[list[int], Tensor]] = []
        for size in range(1, len(self.directions) + 1):
            for chosen in itertools.combinations(range(len(self.directions)), size):
                part = self._loads[list(chosen)]
                # Dependent directions need no choice of their own: an independent subset attains the minimum.
                if float(torch.linalg.svdvals(part)[-1]) > _DEPENDENT and size <= len(basis):
                    self._choices.append((list(chosen), torch.linalg.pinv(part, rtol=0.0)))

    def solve(self, projections: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the move in coordinates of ``basis``, and whether it keeps all bounds.

        Args:
            projections: Projections p, [tokens, k] float64.
            low: Floors, [tokens, k], -inf where there is none.
            high: Ceilings, [tokens, k], inf where there is none.

        Returns:
            y, [tokens, r] float64, 0 for tokens within all bounds, and whether a move was found, [tokens]
            bool. Where no move keeps all bounds to rounding, y is the one that misses them least.
        """
        slack = _SLACK * (1.0 + projections.abs().amax(-1))
        tokens = len(projections)
        best = projections.new_zeros(tokens, len(self.basis))
        inside = ((projections >= low) & (projections <= high)).all(-1)
        missed = torch.where(inside, 0.0, torch.inf).to(projections)
        length = torch.where(inside, 0.0, torch.inf).to(projections)
        for chosen, inverse in self._choices:
            below, above = low[:, chosen] - projections[:, chosen], high[:, chosen] - projections[:, chosen]
            for signs in itertools.product((0, 1), repeat=len(chosen)):
                at = torch.tensor(signs, dtype=torch.bool)
                gap = torch.where(at, above, below)
                move = torch.nan_to_num(gap, nan=0.0, posinf=0.0, neginf=0.0) @ inverse.T
                # Multipliers: a floor pushes up, a ceiling down; any other sign would not be a minimum.
                push = move @ inverse
                right = torch.where(at, push <= 0, push >= 0).all(-1) & torch.isfinite(gap).all(-1)
                if not bool(right.any()):
                    continue
                moved = projections + move @ self._loads.T
                miss = (torch.maximum(low - moved, moved - high).amax(-1) - slack).clamp(min=0)
                far = torch.linalg.vector_norm(move, dim=-1)
                better = right & ((miss < missed) | ((miss == missed) & (far < length)))
                best = torch.where(better[:, None], move, best)
                missed = torch.where(better, miss, missed)
                length = torch.where(better, far, length)
        return best, missed == 0


def bounds_of(caps: Sequence[Cap]) -> tuple[Tensor, Tensor]:
    """Return the floors and the ceilings of caps, [k] float64 each, infinite where there is none."""
    floors = [-np.inf if cap.floor is None else cap.floor for cap in caps]
    ceilings = [np.inf if cap.ceiling is None else cap.ceiling for cap in caps]
    return torch.tensor(floors, dtype=torch.float64), torch.tensor(ceilings, dtype=torch.float64)


def check_together(layer: int, caps: Sequence[Cap]) -> None:
    """Refuse caps of one layer that are too many, or that no activation can satisfy at once.

    Raises:
        InterventionError: If so; the message names the layer and, for contradictory caps, the bounds.
    """
    if len(caps) > MAX_TOGETHER:
        raise InterventionError(
            f"{len(caps)} caps at layer {layer} would have to hold together; {MAX_TOGETHER} can",
            hint="cap fewer directions at that layer, or put another operation between two groups of them",
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
            hint="loosen a bound, or drop one of the caps",
        )
