"""A persona space with its axis, and the numbers that say how sure both are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64


@dataclass(frozen=True, slots=True, eq=False)
class SpaceStats:
    """Numbers of a persona space; R roles, S "somewhat" vectors, K components, intervals are 95%.

    Intervals are over new prompts and new questions (a run whose folds are random: over new responses).
    A map of an earlier version has NaN, or 0, where a number was not yet computed.
    """

    cos_axis_pc1: Float[np.ndarray, "L"]
    """Cosine of the axis with the first component; not negative, the sign of PC1 is set by it."""
    cos_axis_pc1_corrected: Float[np.ndarray, "L"]
    """The same with the noise in axis and component taken out, by what a bootstrap adds to it."""
    cos_axis_pc1_interval: Float[np.ndarray, "L 2"]
    """Of the corrected cosine; bootstrap over prompts, questions and roles."""
    null_q95: Float[np.ndarray, "L"]
    """95% quantile of |cos(axis, PC1)| when random role folds are called the default."""
    split_half: Float[np.ndarray, "L"]
    """Median cosine of the axes of two random halves of the questions (or folds)."""
    split_half_range: Float[np.ndarray, "L 2"]
    """Its lowest and highest value."""
    axis_stability: Float[np.ndarray, "L"]
    """Median cosine of a bootstrap axis with the axis."""
    axis_stability_interval: Float[np.ndarray, "L 2"]
    role_reliability: Float[np.ndarray, "L"]
    """Share of the variance of the roles' places on the axis that is the roles' own, 0 to 1: what would be
    found again with other prompts and questions."""
    role_reliability_interval: Float[np.ndarray, "L 2"]
    """Bootstrap over roles."""
    prompt_reliability: Float[np.ndarray, "L"]
    """Share of the variance of single prompts' places on the axis that is the prompts' own: what would be
    found again with the same prompts and other questions. NaN where the design cannot tell."""
    prompt_reliability_interval: Float[np.ndarray, "L 2"]
    """Bootstrap over roles."""
    role_spread: Float[np.ndarray, "L"]
    """Standard deviation of the roles' own places on the axis, in positions: 1 is the distance from the mean
    role to the default. Near 0, the axis tells no role from another."""
    prompt_spread: Float[np.ndarray, "L"]
    """The same of single prompts. Near 0, the axis tells a role prompt from none, not one from another."""
    variance_ratio: Float[np.ndarray, "L V"]
    """Share of the variance, first 20 components at most."""
    components_for_70: Int64[np.ndarray, "L"]
    """Components that hold 70% of the variance."""
    role_cosines: Float[np.ndarray, "L R"]
    """Cosine with the axis of each role vector less the mean role vector (the raw vectors share a
    part so large that their cosines would all be alike)."""
    projections: Float[np.ndarray, "L R"]
    """Raw role vector on the unit axis; higher is nearer the Assistant."""
    somewhat_projections: Float[np.ndarray, "L S"]
    mean_projection: Float[np.ndarray, "L"]
    """Mean over roles of ``projections``."""
    default_projection: Float[np.ndarray, "L"]
    default_position: Float[np.ndarray, "L K"]
    """The default's place in the range of the "fully" loadings: 0 the lowest role, 1 the highest;
    outside 0 to 1 when it lies beyond every role."""
    default_percentile: Float[np.ndarray, "L K"]
    """Share of the roles whose loading is below the default's, 0 to 1."""
    default_position_interval: Float[np.ndarray, "P 2"]
    """Middle layer, first 5 components by rank; bootstrap over prompts, questions and roles."""
    projection_interval: Float[np.ndarray, "R 2"]
    """Middle layer; over new prompts and questions, the error of the axis among them."""
    loadings: Float[np.ndarray, "R K"]
    """"Fully" vectors on the components at the middle layer."""
    default_loadings: Float[np.ndarray, "K"]
    n_boot: int
    n_splits: int
    seed: int
    null_folds: int
    """Role folds that stood in for the default in each draw of the null."""
    split_roles: int
    """Roles with responses in two folds or more: only these enter the split halves."""
    dense_draws: int
    """Draws that needed a full eigendecomposition."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A persona space with its axis: L layers, width d, layer l after block l, 0-based."""

    roles: tuple[str, ...]
    somewhat: tuple[str, ...]
    """Roles with a "somewhat" vector."""
    excluded: dict[str, int]
    """Roles without a "fully" vector, and how many "fully" responses they had."""
    counts: dict[str, dict[str, int]]
    """Responses of every role by bucket; the default under "default", as "fully"."""
    middle_layer: int
    min_fully: int
    min_somewhat: int
    axis: Float32[np.ndarray, "L d"]
    """mean(default) - mean over roles, not scaled; points TOWARD the Assistant (METHOD 2)."""
    default_vector: Float32[np.ndarray, "L d"]
    role_vectors: Float32[np.ndarray, "L R d"]
    somewhat_vectors: Float32[np.ndarray, "L S d"]
    mean: Float32[np.ndarray, "L d"]
    """Mean of all vectors of the PCA."""
    components: Float32[np.ndarray, "L K d"]
    stats: SpaceStats
