"""Whether the trajectories of two domains differ (section 4).

The permutation test exchanges the domain labels of whole topics: dialogues on one topic resemble
each other.
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
"""What a contrast compares, one number a dialogue: the mean position after the first turn, that of
the last reply (of a second turn or later), the change from the first reply to the last, and the
least-squares slope a turn."""


@dataclass(frozen=True, slots=True)
class ContrastTest:
    """One measure of two domains, first minus second.

    Attributes:
        measure: One of ``MEASURES``.
        estimate: Mean over the dialogues of the first, less that of the second.
        low: Lower 95% limit, from the limits of both means, which resample topics.
        high: Upper limit.
        p_value: Two-sided p-value when whole topics change their domain's label; never 0.
        null_low: 2.5% quantile of the difference under such shuffled labels: what chance alone gives.
        null_high: 97.5% quantile.
        n: Dialogues of the first and of the second.
        n_topics: Topics of the first and of the second.
        left_out: Dialogues of either without the measure, for want of replies.
        paired: The same difference over topic numbers that both have, each the mean over its dialogues,
            with a sign-flip test; None without one. The numbers are arbitrary: nothing but
            their order pairs the topics of two domains.
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
    """Two domains compared.

    Attributes:
        first: Name of one.
        second: Name of the other; estimates are the first's less this one's.
        tests: One for each measure. They speak of the same dialogues and are not corrected for their number.
        permutations: Shuffles of the labels behind each p-value.
    """

    first: str
    second: str
    tests: tuple[ContrastTest, ...]
    permutations: int

    def record(self) -> dict[str, Any]:
        """Return all of it as JSON; what cannot be said is null."""
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
    """Compare domains with each other.

    Two tests stand side by side: one shuffles the domain labels of whole topics and needs no pairing,
    one pairs topics by number. Shuffling single dialogues would take those on one topic for
    independent, and find too much.

    Args:
        run: Simulated or replayed conversations.
        pairs: Domains to compare, first minus second; all pairs by default.
        measures: Some of ``MEASURES``; all by default.
        layer: Where positions are read; the run's layer by default.
        permutations: Shuffles of the labels.
        n_boot: Bootstrap draws.
        seed: Seed of shuffles and draws.

    Raises:
        DynamicsError: If a measure is unknown, a domain is not in the run, or no dialogue of
            one has two replies.
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
    # Limits of a difference from those of its two independent parts: each side by the arms that lie that way.
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
    """P-value of the difference of means and the middle 95% of it under shuffled labels of topics."""
    sums: list[float] = []
    sizes: list[int] = []
    labels: list[bool] = []
    for number, side in enumerate(kept):
        topics: dict[str, list[float]] = {}
        for dialogue, value in side:
            topics.setdefault(topic_key(dialogue), []).append(value)
        # Sorted, so that the order of the dialogues does not change the p-value.
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
