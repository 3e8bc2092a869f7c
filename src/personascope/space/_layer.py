"""One layer: its fold sums, its Gram matrix, and its resampled statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from personascope.space._draws import Draws, Layout, pseudo_default
from personascope.space._lanczos import leading

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Fold sums of one layer, centred on a common centre or on each fold's mean over roles.

    Every statistic of the space is a difference of means, so a common centre cancels. Without centring, the
    large common part of all activations would swamp the differences in rounding error. If folds are blocks of
    questions, centring each on its own mean also removes the common effect of its questions.
    """

    layout: Layout
    centre: Array
    """[d] float64 offset that turns a mean of the rows back into a mean of activations."""
    rows: Array
    """[(R + S + 1) * F, d] float64 sums, minus count times the centre of their fold."""
    product: Callable[[Array], Array]
    """Function that multiplies the Gram matrix of the rows by [(R + S + 1) * F, B] coefficients."""
    fast: Callable[[Array], Array]
    """The same function in float32, for resampling."""


def fold_centres(layout: Layout, sums: Array) -> Array:
    """Return the centre of each fold, which is subtracted per response, [F, d] float64.

    If the folds are random, there is one common centre. If they are blocks of questions, the centres are the
    fold effects of the additive model ``activation = role + fold``, fitted by least squares to the "fully"
    responses. The effects of questions are thus not attributed to a role that answered (or played) only some
    of them.
    """
    if layout.design is None:
        common = sums.sum(axis=(0, 1)) / layout.counts.sum()
        return np.broadcast_to(common, sums.shape[1:])
    n_fully = len(layout.roles)
    counts, role_sums = layout.counts[:n_fully].astype(np.float64), sums[:n_fully]
    per_role = counts.sum(axis=1)
    means = role_sums.sum(axis=1) / per_role[:, None]
    # Role effects are eliminated. The remaining system is singular up to a constant, which is set below.
    system = np.diag(counts.sum(axis=0)) - counts.T @ (counts / per_role[:, None])
    effects = np.linalg.pinv(system, rcond=1e-10, hermitian=True) @ (role_sums.sum(axis=0) - counts.T @ means)
    effects += (means - (counts / per_role[:, None]) @ effects).mean(axis=0)
    return effects


def make_layer(layout: Layout, sums: Array) -> Layer:
    """Centre the fold sums, and prepare products with their Gram matrix in the cheaper of two forms.

    Args:
        layout: Units and their numbers of responses.
        sums: [R + S + 1, F, d] float64 fold sums.
    """
    centres = fold_centres(layout, sums)
    # Average over the default's folds, so that its vector is a mean over question blocks.
    centre = centres[layout.counts[-1] > 0].mean(axis=0)
    rows = (sums - layout.counts[:, :, None] * centres).reshape(-1, sums.shape[-1])
    small = rows.astype(np.float32)
    if len(rows) < 2 * rows.shape[1]:
        gram = rows @ rows.T
        gram_small = gram.astype(np.float32)
        return Layer(layout, centre, rows, lambda c: gram @ c, lambda c: gram_small @ c)
    return Layer(layout, centre, rows, lambda c: rows @ (rows.T @ c), lambda c: small @ (small.T @ c))


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """Resampled statistics of one layer; B draws."""

    cosine: Array
    """[B] |cos(axis, PC1)| of each draw."""
    axis: Array
    """[(R + S + 1) * F, B] coefficients of each draw's axis."""
    default_position: Array
    """[n_vectors, B] the default's position in the range of the drawn roles' loadings."""
    n_dense: int
    """Number of draws solved by a full decomposition because the iteration did not converge."""


def resample(
    layer: Layer,
    draws: Draws,
    components: Array,
    *,
    n_vectors: int,
    relabelled: bool = False,
) -> Resampled:
    """Refit PCA and axis on every draw.

    Args:
        layer: Layer to resample.
        draws: Weights of the draws.
        components: [>= n_vectors, d] components of the full data. The iteration starts from the first, and
            the others determine the signs.
        n_vectors: Number of components to refit.
        relabelled: Whether the draws are of the null, where the default consists of role folds.
    """
    layout = layer.layout
    n_units, n_folds = layout.n_units, layout.counts.shape[1]
    n_fully, batch = len(layout.roles), draws.weights.shape[1]
    t, m = draws.coefficients[:n_units], draws.weights
    root, total = np.sqrt(m), m.sum(axis=0)

    def spread(x: Array) -> Array:
        y = root * x
        y -= m * (y.sum(axis=0) / total)
        rows = np.zeros((n_units + 1, n_folds, batch), x.dtype)
        rows[:n_units] = y[:, None, :] * t
        return rows.reshape(-1, batch)

    def unit_means(z: Array) -> Array:
        return (z.reshape(n_units + 1, n_folds, -1)[:n_units] * t).sum(axis=1)

    def gather(z: Array) -> Array:
        v = unit_means(z)
        return root * (v - (m * v).sum(axis=0) / total)

    along = (layer.rows @ components[:n_vectors].T).astype(np.float32)
    start = gather(along[:, :1])
    # If the first component vanishes in a draw, start from an arbitrary vector.
    start[:, ~(np.abs(start).max(axis=0) > 0)] = 1.0
    vectors, done = leading(lambda x: gather(layer.fast(spread(x))), start, n_vectors)
    for b in np.flatnonzero(~done):
        vectors[:, :, b] = _dense(layer, t[:, :, b], m[:, b], n_vectors)

    axis = drawn_axes(layout, draws, relabelled=relabelled)
    # A squared length near 0 may be negative in float32.
    axis_length = np.sqrt(np.maximum(np.einsum("nb,nb->b", axis, layer.fast(axis)), 0.0))

    position = np.zeros((n_vectors, batch))
    cosine = np.zeros(batch)
    for k in range(n_vectors):
        rows = spread(vectors[k])
        image = layer.fast(rows)
        length = np.sqrt(np.maximum(np.einsum("nb,nb->b", rows, image), 0.0))
        dot = np.einsum("nb,nb->b", axis, image)
        if k == 0:
            cosine = np.abs(dot) / np.where(length * axis_length > 0, length * axis_length, 1.0)
        side = dot if k == 0 else np.einsum("nb,n->b", rows, along[:, k])
        image = image * np.where(side < 0, -1.0, 1.0)
        drawn = m[:n_fully] > 0
        loads = unit_means(image)[:n_fully]
        low = np.where(drawn, loads, np.inf).min(axis=0)
        high = np.where(drawn, loads, -np.inf).max(axis=0)
        default = (image.reshape(n_units + 1, n_folds, -1)[-1] * draws.coefficients[-1]).sum(axis=0)
        position[k] = (default - low) / np.where(high > low, high - low, 1.0)
    return Resampled(cosine, axis, position, int((~done).sum()))


def drawn_axes(layout: Layout, draws: Draws, *, relabelled: bool = False) -> Array:
    """Return the coefficients [(R + S + 1) * F, B] of each draw's axis, float32.

    Args:
        layout: Units and their numbers of responses.
        draws: Weights of the draws.
        relabelled: Whether the draws are of the null, where the default consists of role folds.
    """
    n_fully, m = len(layout.roles), draws.weights
    axis = np.zeros((layout.n_units + 1, layout.counts.shape[1], m.shape[1]))
    axis[:n_fully] = -(m[:n_fully] / m[:n_fully].sum(axis=0))[:, None, :] * draws.coefficients[:n_fully]
    if relabelled:
        axis[:n_fully] += pseudo_default(layout, draws)
    else:
        axis[-1] = draws.coefficients[-1]
    return axis.reshape(-1, m.shape[1]).astype(np.float32)


def _dense(layer: Layer, t: Array, m: Array, n_vectors: int) -> Array:
    """Return the eigenvectors [n_vectors, R + S] of one draw by a full decomposition."""
    n_units, n_folds = t.shape
    rows = layer.rows.reshape(n_units + 1, n_folds, -1)[:n_units]
    v = np.einsum("uf,ufd->ud", t.astype(np.float64), rows)
    v = np.sqrt(m)[:, None] * (v - (m @ v) / m.sum())
    return np.linalg.eigh(v @ v.T)[1][:, ::-1][:, :n_vectors].T


def axis_cosines(layer: Layer, axis: Array, others: Array) -> Array:
    """Return the cosines [B] of one axis (coefficients [N] or [N, B]) with others ([N, B])."""
    axis = axis[:, None] if axis.ndim == 1 else axis
    one, two = layer.product(axis), layer.product(others)
    dot = (axis * two).sum(axis=0)
    length = np.sqrt((axis * one).sum(axis=0) * (others * two).sum(axis=0))
    return dot / np.where(length > 0, length, 1.0)
