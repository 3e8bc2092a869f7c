"""The leading eigenvectors of many small perturbations of one matrix, solved side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
CHECK_EVERY = 2


def leading(
    apply: Callable[[Array], Array],
    start: Array,
    n_vectors: int,
    *,
    tolerance: float = 5e-4,
    max_steps: int = 64,
) -> tuple[Array, Array]:
    """Find the largest eigenpairs of a batch of symmetric positive semi-definite operators.

    Lanczos from a good start with full reorthogonalisation: every step is one product for the
    whole batch, and a clear gap needs about ten steps, where power iteration would need the
    inverse of the logarithm of the gap.

    Args:
        apply: The operators, [n, batch] to [n, batch], column by column.
        start: Start vectors [n, batch], none of them zero.
        n_vectors: How many vectors of each operator.
        tolerance: Largest residual of a vector, as a fraction of the largest eigenvalue.
        max_steps: Where to stop trying.

    Returns:
        Unit vectors [n_vectors, n, batch], largest eigenvalue first, and a mask [batch] of the
        operators whose vectors all reached the tolerance.
    """
    n, batch = start.shape
    steps = min(max_steps, n)
    basis = np.zeros((steps, n, batch), start.dtype)
    basis[0] = start / np.linalg.norm(start, axis=0)
    tri = np.zeros((batch, steps, steps))
    for j in range(steps):
        w = apply(basis[j])
        tri[:, j, j] = np.einsum("nb,nb->b", basis[j], w)
        for _ in range(2):
            overlap = np.einsum("knb,nb->kb", basis[: j + 1], w)
            w = w - np.einsum("knb,kb->nb", basis[: j + 1], overlap)
        beta = np.linalg.norm(w, axis=0)
        size = j + 1
        last = size == steps
        if size >= min(steps, n_vectors + 3) and (last or size % CHECK_EVERY == 0):
            values, small = np.linalg.eigh(tri[:, :size, :size])
            top = small[:, :, ::-1][:, :, :n_vectors]
            residual = np.abs(top[:, -1, :]).max(axis=1) * beta
            done = residual <= tolerance * np.maximum(values[:, -1], 0.0)
            if last or done.all():
                vectors = np.einsum("knb,bkv->vnb", basis[:size], top.astype(start.dtype))
                norm = np.linalg.norm(vectors, axis=1, keepdims=True)
                # A vector that cannot be normalised belongs to no eigenvalue: the caller solves it densely.
                done &= (norm[:, 0] > 0.5).all(axis=0)
                return vectors / np.where(norm > 0, norm, 1.0), done
        # A vanished remainder means that the basis spans all that the operator can reach.
        alive = beta > 1e-6 * np.abs(tri[:, 0, 0])
        basis[j + 1] = np.where(alive, w / np.where(alive, beta, 1.0), 0.0)
        tri[:, j, j + 1] = tri[:, j + 1, j] = np.where(alive, beta, 0.0)
    raise AssertionError("the last step returns")
