"""A persona space with its axis, and statistics of their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from personascope.text import brief


@dataclass(frozen=True, slots=True, eq=False)
class SpaceStats:
    """Statistics of a persona space; L layers, R roles, S "somewhat" vectors, K components.

    Intervals are 95%, over new prompts and new questions (over new responses if the run's folds are random).
    Maps of earlier versions have NaN, or 0, for statistics that were not computed then.
    """

    cos_axis_pc1: Float[np.ndarray, "L"]
    """Cosine of the axis with PC1; never negative, because it sets the sign of PC1."""
    cos_axis_pc1_corrected: Float[np.ndarray, "L"]
    """Cosine of the axis with PC1, corrected for noise in both by a bootstrap (`corrected_cosine`)."""
    cos_axis_pc1_interval: Float[np.ndarray, "L 2"]
    """Interval of the corrected cosine; bootstrap over prompts, questions and roles."""
    null_q95: Float[np.ndarray, "L"]
    """95% quantile of |cos(axis, PC1)| when random role folds are relabelled as the default."""
    split_half: Float[np.ndarray, "L"]
    """Median cosine of the axes of two random halves of the questions (or folds)."""
    split_half_range: Float[np.ndarray, "L 2"]
    """Lowest and highest of these cosines."""
    axis_stability: Float[np.ndarray, "L"]
    """Median cosine of a bootstrap axis with the axis."""
    axis_stability_interval: Float[np.ndarray, "L 2"]
    role_reliability: Float[np.ndarray, "L"]
    """Reliability of the roles' projections on the axis, 0 to 1: the share of their variance that would
    replicate with other prompts and questions."""
    role_reliability_interval: Float[np.ndarray, "L 2"]
    """Interval of the reliability; bootstrap over roles."""
    prompt_reliability: Float[np.ndarray, "L"]
    """Reliability of single prompts' projections on the axis: the share of their variance that would
    replicate
    with other questions. NaN if the design cannot estimate it."""
    prompt_reliability_interval: Float[np.ndarray, "L 2"]
    """Interval of the reliability; bootstrap over roles."""
    role_spread: Float[np.ndarray, "L"]
    """Standard deviation of the roles' projections with noise removed, in position units (mean role 0,
    default
    1). Near 0, the axis does not distinguish roles."""
    prompt_spread: Float[np.ndarray, "L"]
    """The same for single prompts. Near 0, the axis separates role prompts from none, but not from each
    other."""
    variance_ratio: Float[np.ndarray, "L V"]
    """Share of the variance of each component; at most the first 20."""
    components_for_70: Int64[np.ndarray, "L"]
    """Number of components that explain 70% of the variance."""
    role_cosines: Float[np.ndarray, "L R"]
    """Cosine with the axis of each role vector minus the mean role vector. Raw role vectors share a large
    common part, so their cosines would hardly differ."""
    projections: Float[np.ndarray, "L R"]
    """Projection of each raw role vector on the unit axis; higher is nearer the Assistant."""
    somewhat_projections: Float[np.ndarray, "L S"]
    mean_projection: Float[np.ndarray, "L"]
    """Mean of ``projections`` over roles."""
    default_projection: Float[np.ndarray, "L"]
    default_position: Float[np.ndarray, "L K"]
    """Position of the default in the range of the "fully" loadings: 0 is the lowest role, 1 the highest;
    outside 0 to 1 if it lies beyond every role."""
    default_percentile: Float[np.ndarray, "L K"]
    """Share of the roles whose loading is below the default's, 0 to 1."""
    default_position_interval: Float[np.ndarray, "P 2"]
    """Interval of ``default_position`` at the middle layer, for the first 5 components; bootstrap over
    prompts,
    questions and roles."""
    projection_interval: Float[np.ndarray, "R 2"]
    """Interval of ``projections`` at the middle layer, including the error of the axis."""
    loadings: Float[np.ndarray, "R K"]
    """Loadings of the "fully" vectors on the components at the middle layer."""
    default_loadings: Float[np.ndarray, "K"]
    n_boot: int
    n_splits: int
    seed: int
    null_folds: int
    """Number of role folds relabelled as the default in each draw of the null."""
    split_roles: int
    """Median number of roles with responses in both halves; only these enter a split."""
    dense_draws: int
    """Number of draws that needed a full eigendecomposition."""

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A persona space with its axis: L layers, width d, layer l after block l, 0-based."""

    roles: tuple[str, ...]
    somewhat: tuple[str, ...]
    """Roles with a "somewhat" vector."""
    excluded: dict[str, int]
    """Role -> number of "fully" responses, for roles without a "fully" vector."""
    counts: dict[str, dict[str, int]]
    """Role (or "default") -> bucket -> number of responses; those of the default count as "fully"."""
    middle_layer: int
    min_fully: int
    min_somewhat: int
    axis: Float32[np.ndarray, "L d"]
    """Assistant Axis: default mean minus mean over roles, unscaled; points toward the Assistant (METHOD
    2)."""
    default_vector: Float32[np.ndarray, "L d"]
    role_vectors: Float32[np.ndarray, "L R d"]
    somewhat_vectors: Float32[np.ndarray, "L S d"]
    mean: Float32[np.ndarray, "L d"]
    """Mean of all vectors in the PCA."""
    components: Float32[np.ndarray, "L K d"]
    stats: SpaceStats

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)
