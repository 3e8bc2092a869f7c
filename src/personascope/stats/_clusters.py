"""Cluster statistics on plain arrays: bootstrap, effective sample size, sign flips.

These are the building blocks of `_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
import scipy
from numpy.typing import ArrayLike

from personascope.errors import EvaluationError

Array = np.ndarray

EXACT_CLUSTERS = 14
"""Maximum number of differing clusters for which all 2^clusters sign flips are enumerated."""

N_FLIPS = 9999
"""Number of random sign flips for more clusters; the smallest p-value is then 1 / (flips + 1)."""

PRIOR_CORRELATION = 0.2
"""Prior correlation within clusters, used while the data are uninformative about it."""

_CHUNK = 2_000_000  # maximum number of values in memory per resampling step


def wilson(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score limits of a share.

    Args:
        hits: Number of hits; may be fractional (an effective number).
        n: Number of items; may be fractional. 0 gives (0, 1).
        level: Confidence level.
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = z_value(level) ** 2
    share = hits / n
    centre = share + z2 / (2 * n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    # Avoid limits such as 1e-17 from rounding when there are no hits.
    return (0.0 if hits <= 0 else max(low, 0.0)), (1.0 if hits >= n else min(high, 1.0))


def z_value(level: float) -> float:
    """Return the two-sided normal quantile of a confidence level.

    Raises:
        EvaluationError: If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise EvaluationError(
            f"the confidence level is {level}", hint="give a number between 0 and 1, such as 0.95"
        )
    return NormalDist().inv_cdf(0.5 + level / 2)


def limits(estimate: float, spread: Array, freedom: float, level: float) -> tuple[float, float]:
    """Return percentile limits of bootstrap deviations, widened by the ratio of Student's t to the normal."""
    wide = float(scipy.special.stdtrit(freedom, 0.5 + level / 2)) / z_value(level)
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]) * wide
    return estimate + min(float(low), 0.0), estimate + max(float(high), 0.0)


def finite(values: ArrayLike, name: str) -> Array:
    """Return the values as a [n] float64 array.

    Raises:
        EvaluationError: If they are not one-dimensional or not finite.
    """
    items = np.asarray(values, dtype=np.float64)
    if items.ndim != 1:
        raise EvaluationError(f"{name} has shape {items.shape}", hint="give one value for each item")
    if not np.isfinite(items).all():
        where = int((~np.isfinite(items)).argmax())
        raise EvaluationError(
            f"item {where} of {name} is {items[where]}",
            hint="leave out items without a value, in every condition",
        )
    return items


def same_length(items: Array, others: Array, name: str) -> None:
    """Check that two arrays have the same length.

    Raises:
        EvaluationError: If the lengths differ.
    """
    if len(items) != len(others):
        raise EvaluationError(
            f"{len(items)} items and {len(others)} of {name} cannot be paired",
            hint="give the same items in the same order",
        )


def group(clusters: Sequence[Hashable] | None, n: int) -> list[Array]:
    """Return the indices of each cluster's items, in an order of clusters that does not depend on the items'.

    Raises:
        EvaluationError: If the lengths differ.
    """
    if clusters is None:
        return [np.array([i]) for i in range(n)]
    if len(clusters) != n:
        raise EvaluationError(
            f"{n} items have {len(clusters)} clusters",
            hint="give the cluster of each item, in the same order",
        )
    found: dict[Hashable, list[int]] = {}
    for index, name in enumerate(clusters):
        found.setdefault(name, []).append(index)
    return [np.array(found[name]) for name in sorted(found, key=repr)]


def bootstrap(values: Array, groups: list[Array], n_boot: int, rng: np.random.Generator) -> Array:
    """Return deviations [n_boot] of the mean of [n] values when their G clusters are resampled.

    They are scaled by sqrt(G / (G - 1)), because the bootstrap underestimates the variance by (G - 1) / G.
    """
    sums = np.array([values[g].sum() for g in groups])
    sizes = np.array([len(g) for g in groups], float)
    parts = [(times @ sums) / (times @ sizes) for times in _multiplicities(len(groups), n_boot, rng)]
    return (np.concatenate(parts) - values.mean()) * math.sqrt(len(groups) / (len(groups) - 1))


def _multiplicities(n_groups: int, n_boot: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield bootstrap counts of the clusters, in chunks [draws, G]."""
    step = max(1, _CHUNK // n_groups)
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        yield rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size).astype(float)


def effective_size(values: Array, groups: list[Array]) -> float:
    """Return the effective sample size of clustered items.

    It is n / (1 + (m - 1) r), with m the size-weighted mean cluster size and r the correlation within
    clusters. r is the analysis-of-variance estimate, shrunk towards ``PRIOR_CORRELATION`` with the weight of
    one cluster against the number of clusters that contain a value other than the most common one.
    """
    sizes = np.array([len(g) for g in groups], float)
    n, n_groups = sizes.sum(), len(groups)
    mean_size = float((sizes**2).sum() / n)
    found, counts = np.unique(values, return_counts=True)
    usual = found[counts.argmax()]
    evidence = sum(bool((values[g] != usual).any()) for g in groups) if n > n_groups > 1 else 0
    correlation = _correlation(values, groups, sizes, mean_size) if evidence else 0.0
    correlation = (evidence * correlation + PRIOR_CORRELATION) / (evidence + 1)
    return float(n / (1 + (mean_size - 1) * correlation))


def _correlation(values: Array, groups: list[Array], sizes: Array, mean_size: float) -> float:
    """Return the correlation within clusters by analysis of variance, clipped to 0 to 1."""
    n, n_groups = sizes.sum(), len(groups)
    gaps = np.array([values[g].mean() for g in groups]) - values.mean()
    total, between = ((values - values.mean()) ** 2).sum(), (sizes * gaps**2).sum()
    within = max(total - between, 0.0) / (n - n_groups)
    between /= n_groups - 1
    scale = between + ((n - mean_size) / (n_groups - 1) - 1) * within
    return min(max((between - within) / scale, 0.0), 1.0) if scale > 0 else 0.0


def bonett_price(diff: Array, size: float, level: float) -> tuple[float, float]:
    """Return Bonett and Price's adjusted Wald limits of a paired difference of shares, for ``size`` pairs."""
    up = ((diff > 0).mean() * size + 1) / (size + 2)
    down = ((diff < 0).mean() * size + 1) / (size + 2)
    half = z_value(level) * math.sqrt(max(up + down - (up - down) ** 2, 0.0) / (size + 2))
    return float(up - down - half), float(up - down + half)


def sign_flip(diff: Array, groups: list[Array], rng: np.random.Generator) -> float:
    """Return the two-sided p-value of a zero mean from a sign-flip test over clusters."""
    sums = np.array([diff[g].sum() for g in groups])
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    observed = abs(sums.sum()) * (1 - 1e-9)
    if len(sums) <= EXACT_CLUSTERS:
        flips = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((1 - 2 * flips) @ sums) >= observed).mean())
    step, extreme = max(1, _CHUNK // len(sums)), 1
    for start in range(0, N_FLIPS, step):
        flips = rng.integers(2, size=(min(step, N_FLIPS - start), len(sums)))
        extreme += int((np.abs((1 - 2 * flips) @ sums) >= observed).sum())
    return extreme / (N_FLIPS + 1)
