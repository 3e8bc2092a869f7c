"""How well a run knows its axis and its roles' positions so far, from the fold sums of one layer.

The axis is a mean over blocks of questions: in block b the default lies ``d_b`` away from the mean role, and
the axis is the mean of the ``d_b``. Their scatter across the axis gives the squared error of its direction,
``noise``, to which the error from the sample of prompts is added. The sine of the angle to the axis of
unlimited questions, prompts and responses is at most ``sqrt(noise * F) / |axis|`` in 95% of runs, where F is
the 95% quantile of the F distribution with ``nu`` and ``nu * (B - 1)`` degrees of freedom: ``nu`` is the
effective dimension of the scatter, B the number of blocks. This covers two chances at once: the error of this
run's axis may be larger than the expected one, and the expected one is only estimated.

A split-half cosine r and a cosine c with the unlimited axis say the same: the axes of two halves each have
twice the error of the whole, so ``r = c**2 / (2 - c**2)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from personascope.space._build import axis_coefficients, read_units, role_intervals, unit_layout
from personascope.space._draws import bootstrap, halves
from personascope.space._layer import Layer, axis_cosines, drawn_axes, make_layer
from personascope.space._positions import Z95, reliability, variance_components
from personascope.space._sums import Bucket, FoldDesign, FoldSums

CONFIDENCE = 0.95
"""Confidence of the lower bounds."""
SKETCH = 64
"""Number of random directions in which the variance within roles is estimated."""
NO_SECOND = 2**62
"""Minimum number of responses that no "somewhat" vector reaches: precision is of the "fully" vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerSums:
    """The fold sums of one layer in memory (implements ``FoldSums``), "fully" responses and the default."""

    roles: tuple[str, ...]
    fold_design: FoldDesign | None
    fully: Float32[np.ndarray, "roles folds d"]
    fully_counts: Int64[np.ndarray, "roles folds"]
    default: Float32[np.ndarray, "folds d"]
    of_default: Int64[np.ndarray, "folds"]

    n_layers = 1

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.default.shape[-1]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.of_default)

    def counts(self, bucket: Bucket) -> Int64[np.ndarray, "roles folds"]:
        """Return the number of responses in each sum of a bucket; 0 for all but "fully"."""
        return self.fully_counts if bucket == "fully" else np.zeros_like(self.fully_counts)

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """Return the number of responses in each sum of the default."""
        return self.of_default

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Return the sums of one bucket."""
        del layer
        return self.fully if bucket == "fully" else np.zeros_like(self.fully)

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Return the sums of the default."""
        del layer
        return self.default

    def only(self, folds: np.ndarray) -> LayerSums:
        """Return the sums with all responses outside some folds ([F] bool) left out."""
        return LayerSums(
            self.roles,
            self.fold_design,
            self.fully * folds[None, :, None],
            self.fully_counts * folds[None],
            self.default * folds[:, None],
            self.of_default * folds,
        )


def layer_sums(sums: FoldSums, layer: int) -> LayerSums:
    """Read the sums of one layer."""
    return LayerSums(
        sums.roles,
        sums.fold_design,
        sums.sums("fully", layer),
        sums.counts("fully"),
        sums.default_sums(layer),
        sums.default_counts(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Precision:
    """Precision of an axis and of role positions at one layer.

    Variances are in squared position units (0 the mean role, 1 the default): those of activations are traces
    of covariance matrices, divided by the squared length of the axis.

    Attributes:
        roles: Roles with a vector.
        split_half: Median cosine of the axes of random halves of the blocks of questions; NaN if there are
            no two halves.
        cosine_low: Lower 95% bound of the axis's cosine with that of unlimited questions, prompts and
            responses.
        half_widths: Half-width of the 95% interval of each role's position, [R].
        axis_part: Variance of each position from the error of the axis, [R].
        noise: Expected squared error of the axis across itself, which is the squared sine of its angle to the
            axis of unlimited questions.
        prompt: Variance between the prompts of a role.
        response: Variance of responses under one prompt, from question and token sampling together.
        responses: Number of responses in each role vector, [R].
        blocks: Number of blocks of questions with responses of the default.
    """

    roles: tuple[str, ...]
    split_half: float
    cosine_low: float
    half_widths: Float[np.ndarray, "R"]
    axis_part: Float[np.ndarray, "R"]
    noise: float
    prompt: float
    response: float
    responses: Int64[np.ndarray, "R"]
    blocks: int

    @property
    def split_half_low(self) -> float:
        """Lower bound of the split-half cosine that the axis would have with unlimited halvings and luck."""
        return split_half_of(self.cosine_low)


def split_half_of(cosine: float) -> float:
    """Return the split-half cosine of axes whose mean has this cosine with the unlimited axis."""
    return cosine**2 / (2.0 - cosine**2)


def cosine_of(split_half: float) -> float:
    """Return the cosine with the unlimited axis that a split-half cosine stands for."""
    return float(np.sqrt(2.0 * split_half / (1.0 + split_half)))


def measure_precision(
    sums: FoldSums, *, min_fully: int, seed: int = 0, layer: int = 0, n_boot: int = 100, n_splits: int = 50
) -> Precision:
    """Measure the precision of the axis and of role positions at one layer.

    Args:
        sums: Fold sums.
        min_fully: Minimum number of responses of a role vector.
        seed: Random seed of the resampling.
        layer: Layer to measure at.
        n_boot: Number of draws of the axis for the positions' intervals.
        n_splits: Number of random halvings.

    Raises:
        SpaceError: If the sums do not suffice for a space (`build_space`).
    """
    layout, keep = unit_layout(sums, min_fully, NO_SECOND)
    made = make_layer(layout, read_units(sums, layer, layout, keep))
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
    first, second, _ = halves(layout, n_splits, rngs[0])
    coefficients = axis_coefficients(layout)
    axis = made.rows.T @ coefficients
    length = max(float(np.linalg.norm(axis)), 1e-150)
    counts, clusters = layout.counts[:-1], layout.clusters
    shape = (*layout.counts.shape, -1)
    # Seeded by the width alone: every look at a run has the same directions.
    sketch = np.random.default_rng(SKETCH).normal(size=(made.rows.shape[1], SKETCH)) / np.sqrt(SKETCH)
    within = (made.rows @ sketch).reshape(shape)[:-1].transpose(0, 2, 1).reshape(-1, counts.shape[1])
    found = variance_components(within, np.repeat(counts, SKETCH, axis=0), clusters)
    of_prompts = type(found)(found.prompt, 0.0).of_means(counts, clusters).sum() / len(counts) ** 2
    scatter, dimension, blocks = _scatter(made)
    noise = (scatter + SKETCH * float(of_prompts)) / length**2
    bound = noise * _quantile(dimension, dimension * (blocks - 1))
    along = (made.rows @ (axis / length)).reshape(layout.counts.shape)[:-1]
    places = reliability(along, counts, clusters, 0, rngs[1])
    interval = role_intervals(made, axis, places, drawn_axes(layout, bootstrap(layout, n_boot, rngs[2])))
    half = np.diff(interval, axis=1)[:, 0] / 2 / length
    return Precision(
        roles=layout.roles,
        split_half=float(np.median(axis_cosines(made, first, second))),
        cosine_low=float(np.sqrt(max(0.0, 1.0 - bound))),
        half_widths=half,
        axis_part=np.maximum(np.square(half / Z95) - places.variances / length**2, 0.0),
        noise=noise,
        prompt=SKETCH * found.prompt / length**2,
        response=SKETCH * found.response / length**2,
        responses=counts.sum(axis=1),
        blocks=blocks,
    )


def _scatter(layer: Layer) -> tuple[float, float, int]:
    """Return the squared error of the axis from questions, its effective dimension, and the number of blocks.

    The effective dimension is ``tr(C)**2 / tr(C**2)`` of the covariance C of the blocks' axes, with both
    traces estimated without bias for Gaussian scatter.
    """
    layout = layer.layout
    live = np.flatnonzero(layout.counts[-1])
    default = layer.rows.reshape(*layout.counts.shape, -1)[-1, live] / layout.counts[-1, live, None]
    names, of_fold, sizes = np.unique(layout.blocks[live], return_inverse=True, return_counts=True)
    apart = np.zeros((len(names), default.shape[1]))
    np.add.at(apart, of_fold, default)
    apart /= sizes[:, None]
    weights = sizes / sizes.sum()
    axis = weights @ apart
    about = apart - axis
    # An error along the axis itself does not turn it.
    unit = axis / max(float(np.linalg.norm(axis)), 1e-150)
    about -= np.outer(about @ unit, unit)
    squares = np.square(about).sum(axis=1)
    blocks, free = len(names), len(names) - 1
    scatter = float(np.square(weights) @ squares / (1.0 - np.square(weights).sum()))
    gram = about @ about.T / free
    trace, squared = float(np.trace(gram)), float(np.square(gram).sum())
    if free < 2:
        return scatter, 1.0, blocks
    own = free**2 / ((free - 1) * (free + 2)) * (squared - trace**2 / free)
    # No more dimensions than the scatter could show: the estimate is rough when there are few blocks.
    most = float(free * 8)
    return scatter, float(np.clip(trace**2 / own, 1.0, most)) if own > 0 else most, blocks


def _quantile(first: float, second: float) -> float:
    from scipy.special import fdtri

    return float(fdtri(first, second, CONFIDENCE))
