"""Intervals and tests for clustered items, paired conditions, and few control directions.

Answers to the prompts of one role are correlated, so the role, not the answer, is the sampling unit: every
interval resamples clusters, and every test flips the signs of clusters. With named clusters, results do not
depend on the order of the items.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from personascope.errors import EvaluationError
from personascope.stats._clusters import (
    bonett_price,
    bootstrap,
    effective_size,
    finite,
    group,
    limits,
    same_length,
    sign_flip,
    wilson,
)

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence limits.

    Attributes:
        estimate: The share or mean; NaN without items.
        low: Lower limit; NaN if undefined (a mean over fewer than two clusters).
        high: Upper limit; NaN if undefined.
        n: Number of items.
        n_clusters: Number of clusters; equal to ``n`` if none were given.
    """

    estimate: float
    low: float
    high: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean paired difference of the same items under two conditions, first minus second.

    Attributes:
        estimate: Mean of the differences.
        low: Lower confidence limit; NaN if undefined (fewer than two clusters).
        high: Upper confidence limit; NaN if undefined.
        p_value: Two-sided sign-flip p-value over clusters; never 0, and 1 if nothing differs.
        n: Number of pairs.
        n_clusters: Number of clusters; equal to ``n`` if none were given.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class AgainstDraws:
    """Effect of the axis compared with those of control directions of one kind.

    Attributes:
        effect: Mean of the items under the axis, minus the baseline's if one was given.
        draws: Effect of each direction, in the given order.
        mean: Mean of ``draws``.
        low: Lowest of ``draws``.
        high: Highest of ``draws``.
        difference: Effect of the axis minus the mean of ``draws``. Its interval resamples draws and clusters.
            Its p-value flips clusters only, so it refers to these particular draws.
        pooled: The same difference with an interval that resamples clusters only, so it also refers to these
            particular draws.
        p_draw: Share of directions, the axis included, whose effect is at least as far from the mean of all
            as the axis's. It is at least 1 / (draws + 1): with 3 draws it cannot fall below 0.25.
    """

    effect: float
    draws: tuple[float, ...]
    mean: float
    low: float
    high: float
    difference: Difference
    pooled: Difference
    p_draw: float

    @property
    def outside(self) -> bool:
        """Whether the axis's effect lies outside the range of the draws."""
        return not self.low <= self.effect <= self.high

    def beaten(self, sign: float) -> bool:
        """Return whether the axis does more in one direction than these draws do.

        Its effect must lie beyond that of every draw, and the interval of its difference from all of them,
        pooled, must exclude 0. Two draws are too few to estimate how much directions differ, so `difference`
        would hardly ever exclude 0; beyond every draw takes its place.

        Args:
            sign: Direction of the effect: more (positive) or less (negative).
        """
        if sign > 0:
            return self.effect > self.high and self.pooled.low > 0
        return sign < 0 and self.effect < self.low and self.pooled.high < 0


def share_interval(
    hits: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the share of hits with its interval.

    Without clusters it is the Wilson interval. With clusters, each limit is the wider of two: the cluster
    bootstrap's (percentiles, widened by Student's t for few clusters), and Wilson's for the effective number
    of items, n / (1 + (m - 1) r), with m the mean cluster size and r the correlation within clusters. The
    bootstrap alone would have no width if all or no items hit, and hardly any for one hit. The data do not
    determine r in those cases either, so it is shrunk towards ``PRIOR_CORRELATION`` (see `effective_size`).

    Args:
        hits: [n] booleans (or 0 and 1).
        clusters: [n] cluster of each item, for example its role; None for independent items.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap.
        level: Confidence level.

    Raises:
        EvaluationError: If a hit is neither 0 nor 1, or the lengths differ.
    """
    values = finite(hits, "hits")
    if not np.isin(values, (0.0, 1.0)).all():
        odd = values[~np.isin(values, (0.0, 1.0))][0]
        raise EvaluationError(
            f"a share was asked of the value {odd:g}", hint="give hits as 0 and 1, or booleans"
        )
    groups = group(clusters, len(values))
    estimate = float(values.mean()) if len(values) else math.nan
    if clusters is None or not len(values):
        low, high = wilson(float(values.sum()), len(values), level)
        return Interval(estimate, low, high, len(values), len(groups))
    size = effective_size(values, groups)
    low, high = wilson(estimate * size, size, level)
    if len(groups) > 1:
        spread = bootstrap(values, groups, n_boot, np.random.default_rng(seed))
        boot = limits(estimate, spread, len(groups) - 1, level)
        low, high = max(min(low, boot[0]), 0.0), min(max(high, boot[1]), 1.0)
    return Interval(estimate, low, high, len(values), len(groups))


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the mean over items with its cluster bootstrap interval (widened by Student's t).

    If all values are equal, the interval has no width: unlike for a share, the range of possible values is
    unknown.

    Args:
        values: [n] finite numbers.
        clusters: As in `share_interval`.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap.
        level: Confidence level.

    Raises:
        EvaluationError: If a value is not finite, or the lengths differ.
    """
    items = finite(values, "values")
    groups = group(clusters, len(items))
    estimate = float(items.mean()) if len(items) else math.nan
    low = high = math.nan
    if len(groups) > 1:
        spread = bootstrap(items, groups, n_boot, np.random.default_rng(seed))
        low, high = limits(estimate, spread, len(groups) - 1, level)
    return Interval(estimate, low, high, len(items), len(groups))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Return the mean of a - b over the same items, with its interval and a sign-flip test.

    The interval is the cluster bootstrap's. If all values are 0 or 1, each limit is the wider of that and the
    adjusted Wald interval of Bonett and Price for the effective number of pairs (see `share_interval`), so
    that the interval has width even if no pair changed. The test flips the signs of whole clusters: all flips
    for at most ``EXACT_CLUSTERS`` differing clusters, else ``N_FLIPS`` random flips with the observed one
    included.

    Args:
        a: [n] values under the first condition (for example with a plan).
        b: [n] values of the same items, in the same order, under the second (for example without).
        clusters: As in `share_interval`.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap and the flips.
        level: Confidence level.

    Raises:
        EvaluationError: If there are no pairs, a value is not finite, or the lengths differ.
    """
    first, second = finite(a, "a"), finite(b, "b")
    same_length(first, second, "b")
    if not len(first):
        raise EvaluationError("a difference of no pairs was asked for", hint="give at least one pair")
    groups = group(clusters, len(first))
    diff = first - second
    estimate = float(diff.mean())
    rng = np.random.default_rng(seed)
    low = high = math.nan
    if len(groups) > 1:
        spread = bootstrap(diff, groups, n_boot, rng)
        low, high = limits(estimate, spread, len(groups) - 1, level)
        if np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
            wald = bonett_price(diff, effective_size(diff, groups), level)
            low, high = max(min(wald[0], low), -1.0), min(max(wald[1], high), 1.0)
    return Difference(estimate, low, high, sign_flip(diff, groups, rng), len(diff), len(groups))


def against_draws(
    axis: ArrayLike,
    draws: Sequence[ArrayLike],
    clusters: Sequence[Hashable] | None = None,
    *,
    baseline: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> AgainstDraws:
    """Compare the axis with several control directions of one kind on the same items.

    The interval of ``difference`` adds two sources of variance: clusters, resampled jointly for the axis and
    all draws (they answer the same prompts), and draws, resampled among themselves. Student's t uses
    Satterthwaite's degrees of freedom. With few draws that differ, the interval is wide, and it assumes
    roughly normal effects, which 3 to 5 draws cannot check. A single draw cannot be resampled, so the
    interval then refers to that direction only.

    The interval of ``pooled`` resamples clusters alone. If all values are 0 or 1, each limit is the wider of
    that and the mean over draws of Bonett and Price's limits (see `paired_difference`), which is at least as
    wide as the interval of the mean.

    Args:
        axis: [n] values under the axis's plan.
        draws: K arrays [n] of the same items under each direction's plan.
        clusters: As in `share_interval`.
        baseline: [n] values of the same items under no plan, which are subtracted from the effects. The
            comparison of axis and draws does not depend on it.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap and the flips.
        level: Confidence level.

    Raises:
        EvaluationError: If there are no draws or no items, a value is not finite, or the lengths differ.
    """
    items = finite(axis, "axis")
    if not len(draws) or not len(items):
        raise EvaluationError(
            f"{len(items)} items under the axis and {len(draws)} control directions cannot be compared",
            hint="give at least one item and one control direction",
        )
    rows = [finite(draw, f"draw {number}") for number, draw in enumerate(draws)]
    base = np.zeros(len(items)) if baseline is None else finite(baseline, "baseline")
    for number, row in enumerate(rows):
        same_length(items, row, f"draw {number}")
    same_length(items, base, "baseline")
    groups = group(clusters, len(items))
    table = np.stack(rows)
    rng = np.random.default_rng(seed)

    diff = items - table.mean(axis=0)
    estimate = float(diff.mean())
    means, n_draws = table.mean(axis=1), len(table)
    low = high = math.nan
    pooled_limits = (math.nan, math.nan)
    if len(groups) > 1:
        spread = bootstrap(diff, groups, n_boot, rng)
        pooled_limits = _pooled_limits(items, table, groups, spread, level)
        within, between, freedom = spread.var(), 0.0, float(len(groups) - 1)
        if n_draws > 1:
            picked = means[rng.integers(n_draws, size=(n_boot, n_draws))].mean(axis=1)
            drawn = (means.mean() - picked) * math.sqrt(n_draws / (n_draws - 1))
            spread, between = spread + drawn, drawn.var()
            total = within**2 / freedom + between**2 / (n_draws - 1)
            freedom = float((within + between) ** 2 / total) if total > 0 else freedom
        low, high = limits(estimate, spread, freedom, level)

    # Under the null, all directions' distances from their common mean are exchangeable.
    pooled = np.append(means, items.mean())
    far = np.abs(pooled - pooled.mean())
    p_draw = float((far >= far[-1] - 1e-12).mean())
    test = Difference(estimate, low, high, sign_flip(diff, groups, rng), len(items), len(groups))
    low, high = pooled_limits
    effects = means - base.mean()
    return AgainstDraws(
        effect=float(items.mean() - base.mean()),
        draws=tuple(effects.tolist()),
        mean=float(effects.mean()),
        low=float(effects.min()),
        high=float(effects.max()),
        difference=test,
        pooled=replace(test, low=low, high=high),
        p_draw=p_draw,
    )


def _pooled_limits(
    items: Array, table: Array, groups: list[Array], spread: Array, level: float
) -> tuple[float, float]:
    """Return the limits of the axis minus the mean of the draws [K, n], with clusters alone resampled."""
    low, high = limits(float((items - table.mean(axis=0)).mean()), spread, len(groups) - 1, level)
    if np.isin(items, (0.0, 1.0)).all() and np.isin(table, (0.0, 1.0)).all():
        each = [bonett_price(d, effective_size(d, groups), level) for d in items - table]
        wald = np.mean(each, axis=0)
        low, high = max(min(float(wald[0]), low), -1.0), min(max(float(wald[1]), high), 1.0)
    return low, high


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto-optimal points, by rising cost.

    A point is dominated by one that is at least as good in both values and better in one. Equal points are
    both kept or both dropped.

    Args:
        points: (benefit, cost) of each point; more benefit and less cost are better.

    Raises:
        EvaluationError: If a value is NaN.
    """
    table = np.array(points, float).reshape(-1, 2)
    if np.isnan(table).any():
        row = int(np.isnan(table).any(axis=1).argmax())
        raise EvaluationError(
            f"point {row} of a Pareto front is {tuple(points[row])}", hint="leave out cells without a result"
        )
    front: list[int] = []
    best = -math.inf
    last: tuple[float, float] | None = None
    for index in sorted(range(len(table)), key=lambda i: (table[i, 1], -table[i, 0], i)):
        benefit, cost = table[index].tolist()
        if benefit > best or (benefit, cost) == last:
            front.append(index)
            best, last = benefit, (benefit, cost)
    return front
