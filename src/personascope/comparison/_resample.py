"""Bootstrap draws of roles, permutations of their names, and the statistics made of them.

Both maps' values of a role are resampled together, and the names of the second map's roles are permuted.
Three kinds of figures need three kinds of intervals (benchmarks/compare_null.py):

- A correlation: bootstrap deviations on Fisher's scale, widened as in `stats.limits`.
- A figure that is fitted to the roles (a rotation): the fit follows noise, so the figure is too high. Two
  corrections are known: how much higher still the bootstrap draws are, and what the fit of a draw loses when
  it is carried to the measured roles (Efron's optimism). The first falls short where little is shared, the
  second goes too far where much is. The interval reaches from the lower limit of one to the upper limit of
  the other. It holds 0 where the permutations do not exclude it.
- A dimensionality: a draw repeats roles, so its space is smaller. Its spread on the log scale is used, and
  not its level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Float, Int

from personascope.comparison._types import Statistic
from personascope.stats import limits

Array = np.ndarray

LEVEL = 0.95
_NEAR_ONE = 1 - 1e-12
_ROUNDING = 1e-9
"""Null draws this close below the figure count as equal to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Resampled roles, and permutations of their names; n roles, B draws of each.

    Attributes:
        drawn: Places of the roles of each bootstrap draw.
        permuted: Places in the second map of the roles of the first, under each permutation.
    """

    drawn: Int[np.ndarray, "B n"]
    permuted: Int[np.ndarray, "B n"]

    @staticmethod
    def make(n: int, draws: int, seed: int) -> Draws:
        """Draw them; the same numbers for every pair of maps with n shared roles."""
        first, second = (np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(2))
        order = np.tile(np.arange(n), (draws, 1))
        return Draws(first.integers(n, size=(draws, n)), second.permuted(order, axis=1))

    @property
    def weights(self) -> Float[np.ndarray, "B n"]:
        """How often each role is in each bootstrap draw."""
        draws, n = self.drawn.shape
        flat = (self.drawn + n * np.arange(draws)[:, None]).ravel()
        return np.bincount(flat, minlength=draws * n).reshape(draws, n).astype(np.float64)


def tested(value: float, low: float, high: float, null: Array) -> Statistic:
    """Return a figure with the null draws that it is held against, by absolute value."""
    sizes = np.abs(null)
    p_value = (1 + int((sizes >= abs(value) - _ROUNDING).sum())) / (1 + len(sizes))
    return Statistic(value, low, high, float(np.quantile(sizes, LEVEL)), p_value)


def correlation(value: float, drawn: Array, null: Array, n: int) -> Statistic:
    """Return a correlation over n roles with its interval and its null."""
    low, high = np.tanh(limits(float(fisher(value)), _deviations(drawn, n), n - 1, LEVEL)).tolist()
    return tested(value, low, high, null)


def chosen(value: float, drawn: Array, null: Array, n: int) -> Statistic:
    """Return an absolute correlation of what was chosen for it, with its interval and its null.

    The interval is of what was chosen. It holds 0 where the null does not exclude it.

    Args:
        value: The correlation.
        drawn: Its bootstrap draws, with the choice held.
        null: Its null draws, each with a choice of its own.
        n: Number of roles.
    """
    return _with_zero(correlation(value, drawn, null, n))


def fitted(value: float, drawn: Array, carried: Array, null: Array, n: int) -> Statistic:
    """Return a correlation that was fitted to n roles, with its interval and its null.

    Args:
        value: The correlation, 0 to 1; it is kept as it is.
        drawn: Its bootstrap draws, each with a fit of its own.
        carried: The correlation of the measured roles under the fit of each draw.
        null: Its null draws, each with a fit of its own.
        n: Number of roles.
    """
    deviations = _deviations(drawn, n)
    centres = (
        2 * fisher(value) - np.nanmedian(fisher(drawn)),
        fisher(value - float(np.nanmean(drawn - carried))),
    )
    ends = [limits(float(centre), deviations, n - 1, LEVEL) for centre in centres]
    low, high = np.tanh([min(low for low, _ in ends), max(high for _, high in ends)]).tolist()
    return _with_zero(tested(value, max(0.0, low), max(0.0, high), null))


def _with_zero(found: Statistic) -> Statistic:
    excluded = found.p_value is not None and found.p_value <= 1 - LEVEL
    return found if excluded else replace(found, low=min(found.low, found.value, 0.0))


def positive(value: float, drawn: Array, n: int) -> Statistic:
    """Return a positive figure over n roles with an interval of equal factors up and down; it has no null."""
    logs = np.log(np.maximum(drawn, 1e-300))
    half = t_value(n) * float(logs.std())
    return Statistic(value, value * np.exp(-half).item(), value * np.exp(half).item())


def share(value: float, drawn: Array, null: Array, n: int) -> Statistic:
    """Return a figure from 0 to 1 over n roles, with the spread of its draws but not their level."""
    half = t_value(n) * float(drawn.std())
    return tested(value, max(0.0, value - half), min(1.0, value + half), null)


def t_value(n: int) -> float:
    """Return the factor of a standard error over n roles in an interval."""
    return float(scipy.special.stdtrit(n - 1, 0.5 + LEVEL / 2))


def fisher(value: Array | float) -> Array:
    """Return correlations on Fisher's scale; 1 is finite there."""
    return np.arctanh(np.clip(np.asarray(value, float), -_NEAR_ONE, _NEAR_ONE))


def _deviations(drawn: Array, n: int) -> Array:
    """Return the draws' deviations from their median on Fisher's scale, scaled for the small sample."""
    at = fisher(drawn[np.isfinite(drawn)])
    return (at - np.median(at)) * np.sqrt(n / (n - 1))


def agreement(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], draws: Draws) -> tuple[Statistic, ...]:
    """Return Pearson's and Spearman's correlation of two values of the same roles."""
    drawn = draws.drawn
    ranks = [scipy.stats.rankdata(values) for values in (a, b)]
    drawn_ranks = [scipy.stats.rankdata(values[drawn], axis=1) for values in (a, b)]
    sides = (((a, b), (a[drawn], b[drawn])), ((ranks[0], ranks[1]), (drawn_ranks[0], drawn_ranks[1])))
    return tuple(
        correlation(
            float(pearson(first, second)),
            pearson(drawn_first, drawn_second),
            pearson(np.broadcast_to(first, draws.permuted.shape), second[draws.permuted]),
            len(a),
        )
        for (first, second), (drawn_first, drawn_second) in sides
    )


def pearson(a: Float[np.ndarray, "*B n"], b: Float[np.ndarray, "*B n"]) -> Float[np.ndarray, "*B"]:
    """Return Pearson's r along the last dimension; NaN where a side does not vary."""
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    sizes = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(np.where(sizes > 0, (a * b).sum(axis=-1) / sizes, np.nan), -1.0, 1.0)
