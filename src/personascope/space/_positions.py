"""Uncertainty of the roles' projections on the axis, over new prompts, new questions, and the axis itself.

A role's projection is the mean over its responses. Its error has two components: the variance between
prompts, and the variance of responses (to different questions) within a prompt. They are estimated by
variance components pooled over all roles, because one role has too few prompts. The error of the axis, which
all roles share, is added from bootstrap draws of the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Array = np.ndarray

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Components:
    """Variance components of projections within a role, pooled over roles.

    Attributes:
        prompt: Variance between a role's prompts, with the variance of responses subtracted.
        response: Variance of single responses under one prompt (from question and token sampling together).
    """

    prompt: float
    response: float

    def of_means(self, counts: Array, clusters: Array) -> Float[np.ndarray, "R"]:
        """Return the variance of each role's mean, [R], from its responses by fold [R, F]."""
        total = np.maximum(counts.sum(axis=1), 1)
        shares = np.stack([counts[:, clusters == name].sum(axis=1) for name in np.unique(clusters)], axis=1)
        return self.prompt * np.square(shares / total[:, None]).sum(axis=1) + self.response / total


@dataclass(frozen=True, slots=True)
class _Squares:
    """Sums of squares and degrees of freedom of each role, [R]."""

    within: Array
    within_free: Array
    between: Array
    between_free: Array
    weight: Array
    """Coefficient of the variance between prompts in the expectation of ``between``."""

    def components(self, drawn: Array | slice = slice(None)) -> Components:
        free = self.within_free[drawn].sum()
        response = float(self.within[drawn].sum() / free) if free else 0.0
        weight = self.weight[drawn].sum()
        above = self.between[drawn].sum() - response * self.between_free[drawn].sum()
        return Components(float(max(0.0, above / weight)) if weight > 0 else 0.0, response)


def _squares(sums: Array, counts: Array, clusters: Array) -> _Squares:
    n = counts.sum(axis=1)
    mean = sums.sum(axis=1) / np.maximum(n, 1)
    fold_means = sums / np.maximum(counts, 1)
    within = np.zeros(len(n))
    within_free, between, between_free, squares = (np.zeros(len(n)) for _ in range(4))
    for name in np.unique(clusters):
        of = clusters == name
        size = counts[:, of].sum(axis=1)
        centre = sums[:, of].sum(axis=1) / np.maximum(size, 1)
        within += (counts[:, of] * np.square(fold_means[:, of] - centre[:, None])).sum(axis=1)
        within_free += np.maximum((counts[:, of] > 0).sum(axis=1) - 1, 0)
        between += size * np.square(centre - mean)
        between_free += size > 0
        squares += np.square(size)
    return _Squares(
        within, within_free, between, np.maximum(between_free - 1, 0), n - squares / np.maximum(n, 1)
    )


def variance_components(
    sums: Float[np.ndarray, "R F"], counts: Float[np.ndarray, "R F"], clusters: Float[np.ndarray, "F"]
) -> Components:
    """Estimate the variance between prompts and between responses by analysis of variance.

    Args:
        sums: Sums of the projections of each role's responses, by fold.
        counts: Number of responses in each sum.
        clusters: Prompt of each fold. If every fold is its own cluster, all variance counts as between
            clusters.
    """
    return _squares(sums, counts, clusters).components()


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Reliability of projections on a direction: the share of their variance that would replicate.

    Attributes:
        roles: Reliability of the roles' projections: share of their variance that is not noise from prompts
            and questions (a generalisability coefficient, 0 to 1), with its 95% interval over resampled
            roles: (value, low, high).
        prompts: Reliability of single prompts' projections over new questions, in the same form. NaN if no
            prompt has more than one fold.
        spread: Standard deviation of the roles' projections with noise removed, in units of the direction.
        prompt_spread: Standard deviation of the prompts' projections with noise removed.
        variances: Error variance of each role's projection from its prompts and responses, [R].
    """

    roles: tuple[float, float, float]
    prompts: tuple[float, float, float]
    spread: float
    prompt_spread: float
    variances: Float[np.ndarray, "R"]


def reliability(sums: Array, counts: Array, clusters: Array, n: int, rng: np.random.Generator) -> Reliability:
    """Estimate the reliability of roles' and single prompts' projections on a direction.

    Args:
        sums: Sums of projections on a unit vector, [R, F].
        counts: Number of responses in each sum, [R, F].
        clusters: Prompt of each fold, [F].
        n: Number of draws of roles for the intervals; 0 gives NaN intervals.
        rng: Source of randomness.
    """
    squares = _squares(sums, counts, clusters)
    role_means = sums.sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    # A run that was stopped early may have asked nothing yet under the prompts of a slot.
    names = np.unique(clusters[counts.any(axis=0)])
    sizes = np.stack([counts[:, clusters == name].sum(axis=1) for name in names], axis=1)
    totals = np.stack([sums[:, clusters == name].sum(axis=1) for name in names], axis=1)
    prompt_means = np.where(sizes > 0, totals / np.maximum(sizes, 1), np.nan)
    separable = squares.within_free.sum() > 0

    def own(observed: float, noise: float) -> tuple[float, float]:
        left = max(0.0, observed - noise)
        return (left / observed if observed > 0 else 0.0), left

    def shares(drawn: Array | slice) -> tuple[float, float, float, float, Array]:
        found = squares.components(drawn)
        noise = found.of_means(counts[drawn], clusters)
        role, role_own = own(float(np.var(role_means[drawn], ddof=1)), float(noise.mean()))
        if not separable:
            return role, role_own, float("nan"), float("nan"), noise
        # Centre on the mean of each prompt slot, since the effect of the slot is common to all roles.
        means, size = prompt_means[drawn], sizes[drawn]
        there = size > 0
        about = means - np.nansum(means, axis=0) / np.maximum(there.sum(axis=0), 1)
        freedom = max(int(there.sum()) - there.shape[1], 1)
        observed = float(np.nansum(np.square(about)) / freedom)
        prompt, prompt_own = own(observed, float(found.response * np.mean(1.0 / size[there])))
        return role, role_own, prompt, prompt_own, noise

    role, role_own, prompt, prompt_own, variances = shares(slice(None))
    draws = np.array([shares(rng.integers(len(role_means), size=len(role_means)))[:3:2] for _ in range(n)])
    ends = np.quantile(draws, [0.025, 0.975], axis=0) if n else np.full((2, 2), np.nan)
    return Reliability(
        (role, float(ends[0, 0]), float(ends[1, 0])),
        (prompt, float(ends[0, 1]), float(ends[1, 1])),
        float(np.sqrt(role_own)),
        float(np.sqrt(prompt_own)),
        variances,
    )


def position_interval(
    positions: Float[np.ndarray, "R"],
    variances: Float[np.ndarray, "R"],
    drawn: Float[np.ndarray, "R B"],
) -> Float[np.ndarray, "R 2"]:
    """Return 95% intervals of the roles' positions (0 the mean role, 1 the default).

    Args:
        positions: Estimated positions.
        variances: Error variance of each position from the role's prompts and responses.
        drawn: Positions of the same roles on bootstrap draws of the axis.
    """
    half = Z95 * np.sqrt(variances + drawn.var(axis=1, ddof=1))
    return np.stack([positions - half, positions + half], axis=1)


def corrected_cosine(point: float, draws: Float[np.ndarray, "B"]) -> tuple[float, float, float]:
    """Correct a cosine for the noise in both of its vectors; return the estimate and its 95% interval.

    Noise rotates two vectors apart, so the measured cosine is too low. A bootstrap adds the same noise again,
    so its draws are lower still by as much. Noise orthogonal to a vector is additive on the scale of the
    squared tangent, so the bootstrap's increase is subtracted on that scale. The interval is the draws'
    spread about the corrected estimate on the scale of the tangent, where it hardly depends on the angle
    (benchmarks/interval_coverage.md).

    For nearly orthogonal vectors, noise raises the absolute cosine instead. If the draws lie above the
    measured cosine, their own quantiles are used, and the estimate is lowered by the median increase.

    Args:
        point: Measured absolute cosine, 0 to 1.
        draws: Absolute cosines of bootstrap draws.
    """
    cosines = np.clip(np.append(draws, point), 1e-6, 1.0)
    tangents = np.sqrt(1.0 - np.square(cosines)) / cosines
    drawn, at = tangents[:-1], float(tangents[-1])
    low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975])
    if middle < at:
        least, median, most = (float(value) for value in np.quantile(cosines[:-1], [0.025, 0.5, 0.975]))
        estimate = max(0.0, 2 * float(cosines[-1]) - median)
        return estimate, min(least, estimate), most
    corrected = float(np.sqrt(max(0.0, 2 * at**2 - middle**2)))
    found = (corrected, corrected + high - middle, max(0.0, corrected - (middle - low)))
    estimate, lowest, highest = (float(1.0 / np.sqrt(1.0 + value**2)) for value in found)
    return estimate, lowest, highest
