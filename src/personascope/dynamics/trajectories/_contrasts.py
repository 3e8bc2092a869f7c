"""Tests of whether the trajectories of two domains differ (section 4).

The permutation test shuffles the domain labels of whole topics, because dialogues on one topic are
correlated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.dynamics._conversation import Dialogue, DriftRun, topic_key
from personascope.dynamics.trajectories._by_domain import by_domain, first_to_last
from personascope.errors import DynamicsError
from personascope.stats import Difference, json_values, mean_interval, paired_difference


def _mean(path: Float[np.ndarray, "turns"]) -> float:
    later = path[1:][np.isfinite(path[1:])]
    return float(later.mean()) if len(later) else math.nan


def _last(path: Float[np.ndarray, "turns"]) -> float:
    later = path[1:][np.isfinite(path[1:])]
    return float(later[-1]) if len(later) else math.nan


def _slope(path: Float[np.ndarray, "turns"]) -> float:
    at = np.flatnonzero(np.isfinite(path))
    if len(at) < 2:
        return math.nan
    away = at - at.mean()
    return float(away @ path[at] / (away @ away))


MEASURES: Mapping[str, Callable[[Float[np.ndarray, "turns"]], float]] = {
    "mean": _mean,
    "last": _last,
    "change": first_to_last,
    "slope": _slope,
}
"""Measures that a contrast compares, one number per dialogue: the mean position after the first turn, the
position of the last reply (at the second turn or later), the change from the first reply to the last, and
the least-squares slope per turn."""


@dataclass(frozen=True, slots=True)
class ContrastTest:
    """Comparison of two domains on one measure, first minus second.

    Attributes:
        measure: One of ``MEASURES``.
        estimate: Mean over the first domain's dialogues minus that of the second's.
        low: Lower 95% limit, from the limits of both means, which resample topics.
        high: Upper 95% limit.
        p_value: Two-sided p-value of shuffling the domain labels of whole topics; never 0.
        null_low: 2.5% quantile of the difference under shuffled labels.
        null_high: 97.5% quantile of the difference under shuffled labels.
        n: Number of dialogues of the first and of the second domain.
        n_topics: Number of topics of the first and of the second domain.
        left_out: Number of dialogues of either domain with too few replies for the measure.
        paired: The same difference over the topic indices that both domains have, averaged per topic, with a
            sign-flip test; None if they share no index. The pairing is arbitrary: topics of two domains are
            paired by their order alone.
    """

    measure: str
    estimate: float
    low: float
    high: float
    p_value: float
    null_low: float
    null_high: float
    n: tuple[int, int]
    n_topics: tuple[int, int]
    left_out: int
    paired: Difference | None


@dataclass(frozen=True, slots=True)
class Contrast:
    """Comparison of two domains.

    Attributes:
        first: Name of the first domain.
        second: Name of the second domain, which estimates subtract from the first.
        tests: One test per measure, on the same dialogues. They are not corrected for multiple testing.
        permutations: Number of label shuffles behind each p-value.
    """

    first: str
    second: str
    tests: tuple[ContrastTest, ...]
    permutations: int

    def record(self) -> dict[str, Any]:
        """Return the contrast as JSON values; NaN becomes null."""
        return json_values(asdict(self))


def contrasts(
    run: DriftRun,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    layer: int | None = None,
    permutations: int = 9999,
    n_boot: int = 2000,
    seed: int = 0,
) -> tuple[Contrast, ...]:
    """Compare pairs of domains.

    Two tests are reported: one shuffles the domain labels of whole topics and needs no pairing, the other
    pairs topics by index. Shuffling single dialogues would treat those on one topic as independent, and yield
    p-values that are too small.

    Args:
        run: Simulated or replayed conversations.
        pairs: Domains to compare, first minus second; all pairs by default.
        measures: Measures to compare, of ``MEASURES``; all by default.
        layer: Layer at which positions are read; the run's layer by default.
        permutations: Number of label shuffles.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the shuffles and the bootstrap.

    Raises:
        DynamicsError: If a measure is unknown, a domain is not in the run, or no dialogue of a domain has
            enough replies.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise DynamicsError(
                f"{measure!r} is no measure of a trajectory", hint=f"give some of: {', '.join(MEASURES)}"
            )
    domains = by_domain(run)
    chosen = list(combinations(domains, 2)) if pairs is None else list(pairs)
    found: list[Contrast] = []
    for first, second in chosen:
        for name in (first, second):
            if name not in domains:
                raise DynamicsError(
                    f"the domain {name!r} is not in the run {run.path}",
                    hint=f"give two of: {', '.join(domains) or 'none'}",
                )
        tests = tuple(
            _test(run, measure, (domains[first], domains[second]), layer, permutations, n_boot, seed)
            for measure in measures
        )
        found.append(Contrast(first, second, tests, permutations))
    return tuple(found)


def _test(
    run: DriftRun,
    measure: str,
    sides: tuple[list[Dialogue], list[Dialogue]],
    layer: int | None,
    permutations: int,
    n_boot: int,
    seed: int,
) -> ContrastTest:
    kept: list[list[tuple[Dialogue, float]]] = []
    for dialogues in sides:
        values = [(one, MEASURES[measure](run.positions(one, layer))) for one in dialogues]
        kept.append([(one, value) for one, value in values if math.isfinite(value)])
        if not kept[-1]:
            raise DynamicsError(
                f"no dialogue of the domain {dialogues[0].domain!r} has two replies to compare",
                hint="simulate more than one turn",
            )
    means = [
        mean_interval([v for _, v in side], [topic_key(d) for d, _ in side], n_boot=n_boot, seed=seed)
        for side in kept
    ]
    estimate = means[0].estimate - means[1].estimate
    # Combine the limits of two independent means in quadrature (MOVER): each limit of the difference uses the
    # arms of the two intervals that push it that way.
    down = math.hypot(means[0].estimate - means[0].low, means[1].high - means[1].estimate)
    up = math.hypot(means[0].high - means[0].estimate, means[1].estimate - means[1].low)
    p_value, null_low, null_high = _shuffled_labels(kept, permutations, seed)
    return ContrastTest(
        measure=measure,
        estimate=estimate,
        low=estimate - down,
        high=estimate + up,
        p_value=p_value,
        null_low=null_low,
        null_high=null_high,
        n=(means[0].n, means[1].n),
        n_topics=(means[0].n_clusters, means[1].n_clusters),
        left_out=sum(len(side) for side in sides) - sum(len(side) for side in kept),
        paired=_paired(kept, n_boot, seed),
    )


def _shuffled_labels(
    kept: list[list[tuple[Dialogue, float]]], permutations: int, seed: int
) -> tuple[float, float, float]:
    """Return the p-value and the central 95% range of the difference under shuffled topic labels."""
    sums: list[float] = []
    sizes: list[int] = []
    labels: list[bool] = []
    for number, side in enumerate(kept):
        topics: dict[str, list[float]] = {}
        for dialogue, value in side:
            topics.setdefault(topic_key(dialogue), []).append(value)
        # Sort, so that the order of the dialogues does not change the p-value.
        for name in sorted(topics):
            sums.append(math.fsum(topics[name]))
            sizes.append(len(topics[name]))
            labels.append(number == 0)
    total, count = np.array(sums), np.array(sizes, float)
    mask = np.array(labels, float)

    def difference(first: np.ndarray) -> np.ndarray:
        return first @ total / (first @ count) - (1 - first) @ total / ((1 - first) @ count)

    rng = np.random.default_rng(seed)
    null = difference(rng.permuted(np.tile(mask, (permutations, 1)), axis=1))
    observed = abs(float(difference(mask[None])[0])) * (1 - 1e-9)
    p_value = (1 + int((np.abs(null) >= observed).sum())) / (permutations + 1)
    low, high = np.quantile(null, [0.025, 0.975])
    return p_value, float(low), float(high)


def _paired(kept: list[list[tuple[Dialogue, float]]], n_boot: int, seed: int) -> Difference | None:
    sides: list[dict[int, list[float]]] = [{}, {}]
    for numbers, side in zip(sides, kept, strict=True):
        for dialogue, value in side:
            numbers.setdefault(dialogue.number, []).append(value)
    both = sorted(set(sides[0]) & set(sides[1]))
    if not both:
        return None
    first, second = ([float(np.mean(numbers[n])) for n in both] for numbers in sides)
    return paired_difference(first, second, n_boot=n_boot, seed=seed)
