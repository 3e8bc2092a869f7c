"""Intervals and tests of the evaluations' tables: items in clusters, conditions in pairs, few draws.

Answers to the prompts of one role resemble each other, so the role, not the answer, is what was
sampled: every interval resamples clusters, every test flips the signs of clusters. Each result is
a function of its items and the seed, whatever the order in which the items came.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

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
        low: Lower limit; NaN where nothing can be said (a mean of fewer than two clusters).
        high: Upper limit, likewise.
        n: Number of items.
        n_clusters: Number of clusters; equal to ``n`` when none were given.
    """

    estimate: float
    low: float
    high: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of the same items under two conditions, first minus second.

    Attributes:
        estimate: Mean of the differences.
        low: Lower confidence limit; NaN where nothing can be said (fewer than two clusters).
        high: Upper confidence limit, likewise.
        p_value: Two-sided sign-flip p-value over clusters; never 0, and 1 when nothing differs.
        n: Number of pairs.
        n_clusters: Number of clusters; equal to ``n`` when none were given.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class AgainstDraws:
    """The effect of the axis next to those of random directions.

    Attributes:
        effect: Mean of the axis' items, less the baseline's when one was given.
        draws: The same for each random direction, in the order given.
        mean: Mean of ``draws``.
        low: Least of ``draws``.
        high: Greatest of ``draws``.
        difference: Axis minus the draws' mean. Its interval resamples draws and clusters; its
            p-value flips clusters and so speaks of these draws alone.
        p_draw: Share of directions, the axis counted among them, whose effect is at least as far
            from the mean of all as the axis': at least 1 / (draws + 1). With 3 draws it cannot fall
            below 0.25, and that is all that 3 draws can say about random directions in general.
    """

    effect: float
    draws: tuple[float, ...]
    mean: float
    low: float
    high: float
    difference: Difference
    p_draw: float

    @property
    def outside(self) -> bool:
        """Whether the axis' effect lies outside the range of the draws."""
        return not self.low <= self.effect <= self.high


def share_interval(
    hits: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the share of hits with its interval.

    Without clusters it is Wilson's. With clusters it is the wider, on each side, of two: the
    cluster bootstrap (percentiles of resampled clusters, spread by Student's t for few clusters),
    and Wilson's for the effective number of items, n / (1 + (m - 1) r), with m the mean cluster
    size and r the correlation within clusters. A bootstrap alone has no width when all or none hit,
    and hardly any at one hit. There r cannot be seen either, so its estimate is drawn towards
    ``PRIOR_CORRELATION`` with the weight of one cluster against the number of clusters in which
    the rarer outcome occurs.

    Args:
        hits: [n] of booleans (or 0 and 1).
        clusters: [n] names of the clusters, for example roles; None for independent items.
        n_boot: Bootstrap draws.
        seed: Seed of the draws.
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
    """Return the mean over items with its cluster bootstrap interval (spread by Student's t).

    Values that are all equal give an interval without width: of a mean, unlike of a share, nothing
    is known about values that did not occur.

    Args:
        values: [n] finite numbers.
        clusters: As in `share_interval`.
        n_boot: Bootstrap draws.
        seed: Seed of the draws.
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
    """Return the mean of a - b over the same items, its interval, and a sign-flip test.

    The interval is the cluster bootstrap's. When both conditions are shares (0 and 1), it is the
    wider, on each side, of that and the adjusted Wald interval of Bonett and Price for the
    effective number of pairs (see `share_interval`): no pair that changed is not certainty that none would.
    The test flips the signs of whole clusters: exact over all flips with at most ``EXACT_CLUSTERS``
    clusters that differ, else by ``N_FLIPS`` random ones, the observed one counted.

    Args:
        a: [n] values under the first condition (for example with a plan).
        b: [n] values of the same items, in the same order, under the second (for example without).
        clusters: As in `share_interval`.
        n_boot: Bootstrap draws.
        seed: Seed of the draws and flips.
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
    """Compare the axis with several random directions on the same items.

    The interval of the difference adds two spreads: clusters resampled together for the axis and
    all draws (they answer the same prompts), and the draws resampled among themselves. Student's t
    has the degrees of freedom of Satterthwaite. With few draws this is honest but wide where the
    directions differ among themselves, and it rests on the assumption that their effects are
    roughly normal, which 3 to 5 draws cannot check. One draw cannot be resampled: the interval
    then speaks of that one direction only.

    Args:
        axis: [n] values under the axis' plan.
        draws: K arrays [n], the same items under each random direction's plan.
        clusters: As in `share_interval`.
        baseline: [n] the same items under no plan; the effects are then differences from it.
            The comparison of axis and draws is the same with or without.
        n_boot: Bootstrap draws.
        seed: Seed of the draws and flips.
        level: Confidence level.

    Raises:
        EvaluationError: If there are no draws or no items, a value is not finite, or the lengths differ.
    """
    items = finite(axis, "axis")
    if not len(draws) or not len(items):
        raise EvaluationError(
            f"{len(items)} items under the axis and {len(draws)} random directions cannot be compared",
            hint="give at least one item and one random direction",
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
    if len(groups) > 1:
        spread = bootstrap(diff, groups, n_boot, rng)
        within, between, freedom = spread.var(), 0.0, float(len(groups) - 1)
        if n_draws > 1:
            picked = means[rng.integers(n_draws, size=(n_boot, n_draws))].mean(axis=1)
            drawn = (means.mean() - picked) * math.sqrt(n_draws / (n_draws - 1))
            spread, between = spread + drawn, drawn.var()
            total = within**2 / freedom + between**2 / (n_draws - 1)
            freedom = float((within + between) ** 2 / total) if total > 0 else freedom
        low, high = limits(estimate, spread, freedom, level)

    # Exchangeable under the null: each direction's distance from the mean of all of them.
    pooled = np.append(means, items.mean())
    far = np.abs(pooled - pooled.mean())
    p_draw = float((far >= far[-1] - 1e-12).mean())
    test = Difference(estimate, low, high, sign_flip(diff, groups, rng), len(items), len(groups))
    effects = means - base.mean()
    return AgainstDraws(
        effect=float(items.mean() - base.mean()),
        draws=tuple(effects.tolist()),
        mean=float(effects.mean()),
        low=float(effects.min()),
        high=float(effects.max()),
        difference=test,
        p_draw=p_draw,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other one beats, by rising cost.

    A point is beaten by one that is at least as good in both and better in one. Equal points stand or
    fall together.

    Args:
        points: (benefit, cost): more benefit is better, less cost is better.

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
