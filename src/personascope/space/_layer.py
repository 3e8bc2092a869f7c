"""One layer: its fold sums, its Gram matrix, and the statistics that resampling it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from personascope.space._draws import Draws, Layout, pseudo_default
from personascope.space._lanczos import leading

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Fold sums of one layer about a common centre, or each fold about its own mean over roles.

    Every statistic of the space is a difference of means, so a common centre cancels; without it the
    large common part of all activations would drown the differences in rounding. Where folds are blocks
    of questions, taking each about its own mean also takes out what the question does to every role.
    """

    layout: Layout
    centre: Array
    """[d] float64: what makes a mean of the rows a mean of activations again."""
    rows: Array
    """[(R + S + 1) * F, d] float64 sums, less count times the centre of their fold."""
    product: Callable[[Array], Array]
    """The Gram matrix of the rows times [(R + S + 1) * F, B] coefficients."""
    fast: Callable[[Array], Array]
    """The same in float32, for resampling."""


def fold_centres(layout: Layout, sums: Array) -> Array:
    """Return what is taken from the sums of each fold, per response, [F, d] float64.

    One common centre where the folds are random. Where they are blocks of questions: the effects of the
    folds in the additive model ``activation = role + fold`` over the "fully" responses, by least squares, so
    that a role that answered (or played) only some of the questions is not given their effects for its own.
    """
    if layout.design is None:
        common = sums.sum(axis=(0, 1)) / layout.counts.sum()
        return np.broadcast_to(common, sums.shape[1:])
    n_fully = len(layout.roles)
    counts, role_sums = layout.counts[:n_fully].astype(np.float64), sums[:n_fully]
    per_role = counts.sum(axis=1)
    means = role_sums.sum(axis=1) / per_role[:, None]
    # The roles' own effects are eliminated; what is left is singular by one constant, which is set below.
    system = np.diag(counts.sum(axis=0)) - counts.T @ (counts / per_role[:, None])
    effects = np.linalg.pinv(system, rcond=1e-10, hermitian=True) @ (role_sums.sum(axis=0) - counts.T @ means)
    effects += (means - (counts / per_role[:, None]) @ effects).mean(axis=0)
    return effects


def make_layer(layout: Layout, sums: Array) -> Layer:
    """Centre the fold sums and hold their Gram matrix in the cheaper of its two forms.

    Args:
        layout: The units.
        sums: [R + S + 1, F, d] float64.
    """
    centres = fold_centres(layout, sums)
    # The mean over the default's folds, so that its vector is the mean of its responses' means by question.
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
    """What the draws of one layer gave; B draws."""

    cosine: Array
    """[B] |cos(axis, PC1)| of each draw."""
    axis: Array
    """[(R + S + 1) * F, B] coefficients of each draw's axis."""
    default_position: Array
    """[n_vectors, B] the default's place in the range of the drawn roles' loadings."""
    n_dense: int
    """Draws whose components were solved densely because the iteration did not converge."""


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
        layer: The layer.
        draws: The draws.
        components: [>= n_vectors, d] components of the full data: the iteration starts from the
            first, and the signs of the others follow them.
        n_vectors: Components to refit.
        relabelled: The draws are of the null: the default is made of role folds.
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
    # A draw in which the first component vanishes altogether starts from anywhere instead.
    start[:, ~(np.abs(start).max(axis=0) > 0)] = 1.0
    vectors, done = leading(lambda x: gather(layer.fast(spread(x))), start, n_vectors)
    for b in np.flatnonzero(~done):
        vectors[:, :, b] = _dense(layer, t[:, :, b], m[:, b], n_vectors)

    axis = np.zeros((n_units + 1, n_folds, batch))
    axis[:n_fully] = -(m[:n_fully] / m[:n_fully].sum(axis=0))[:, None, :] * t[:n_fully]
    if relabelled:
        axis[:n_fully] += pseudo_default(layout, draws)
    else:
        axis[-1] = draws.coefficients[-1]
    axis = axis.reshape(-1, batch).astype(np.float32)
    # A length of nearly 0 may come out below it in float32.
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


def _dense(layer: Layer, t: Array, m: Array, n_vectors: int) -> Array:
    """Eigenvectors [n_vectors, R + S] of one draw by a full decomposition."""
    n_units, n_folds = t.shape
    rows = layer.rows.reshape(n_units + 1, n_folds, -1)[:n_units]
    v = np.einsum("uf,ufd->ud", t.astype(np.float64), rows)
    v = np.sqrt(m)[:, None] * (v - (m @ v) / m.sum())
    return np.linalg.eigh(v @ v.T)[1][:, ::-1][:, :n_vectors].T


def axis_cosines(layer: Layer, axis: Array, others: Array) -> Array:
    """Cosine [B] of one axis (coefficients [N] or [N, B]) with others ([N, B])."""
    axis = axis[:, None] if axis.ndim == 1 else axis
    one, two = layer.product(axis), layer.product(others)
    dot = (axis * two).sum(axis=0)
    length = np.sqrt((axis * one).sum(axis=0) * (others * two).sum(axis=0))
    return dot / np.where(length > 0, length, 1.0)
