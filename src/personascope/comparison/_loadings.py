"""Correlation of two maps' loadings: by order, by the best assignment, and by the best rotation.

Everything follows from the covariances of the loadings of both maps, so a draw is its covariances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from personascope.comparison._resample import Draws, chosen, correlation, fitted
from personascope.comparison._types import ComponentMatch, ComponentMatching, Statistic

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """Covariances of the loadings of both maps on k components, of B draws."""

    first: Float[np.ndarray, "B k k"]
    second: Float[np.ndarray, "B k k"]
    between: Float[np.ndarray, "B k k"]

    @property
    def correlations(self) -> Float[np.ndarray, "B k k"]:
        """Correlations of every component of the first map with every one of the second."""
        sizes = np.sqrt(_diagonal(self.first))[:, :, None] * np.sqrt(_diagonal(self.second))[:, None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(np.where(sizes > 0, self.between / sizes, np.nan), -1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """What is fitted to B draws: the rotation of the second map's loadings, and the canonical directions."""

    rotation: Float[np.ndarray, "B k k"]
    first: Float[np.ndarray, "B k k"]
    second: Float[np.ndarray, "B k k"]

    def on(self, moments: _Moments) -> Float[np.ndarray, "1+2k B"]:
        """Return the Procrustes, k rotated and k canonical correlations of draws under these fits."""
        spread = np.sqrt(_diagonal(moments.first).sum(axis=1) * _diagonal(moments.second).sum(axis=1))
        shared = _diagonal(moments.between @ self.rotation)
        turned = _along(self.rotation, moments.second, self.rotation)
        rotated = shared / np.sqrt(np.maximum(_diagonal(moments.first) * turned, 1e-300))
        sizes = _along(self.first, moments.first, self.first) * _along(
            self.second, moments.second, self.second
        )
        canonical = _along(self.first, moments.between, self.second) / np.sqrt(np.maximum(sizes, 1e-300))
        procrustes = shared.sum(axis=1) / np.maximum(spread, 1e-300)
        return np.clip(np.concatenate([procrustes[:, None], rotated, canonical], axis=1).T, -1.0, 1.0)


def match_components(
    first: Float[np.ndarray, "n k"], second: Float[np.ndarray, "n k"], draws: Draws
) -> ComponentMatching:
    """Correlate the loadings of the same n roles on k components of two maps.

    The signs of components are arbitrary, so all correlations are absolute. The interval of |r| may go below
    0: other roles would then give the other sign. The assignment is made anew in every permutation, and the
    rotation in every permutation and every bootstrap draw; the interval of an assigned pair is of this pair.
    """
    n, k = first.shape
    point = _moments(first, second, np.ones((1, n)))
    boot = _moments(first, second, draws.weights)
    null = _permuted(first, second, draws.permuted)
    r, drawn_r, null_r = point.correlations[0], boot.correlations, null.correlations
    rows, columns = linear_sum_assignment(-np.abs(r))
    assigned_null = _assigned(null_r)
    signs = np.where(r < 0, -1.0, 1.0)
    in_draws = _fit(boot)
    measured, drawn, carried = _fit(point).on(point), in_draws.on(boot), in_draws.on(point)
    chance = _fit(null).on(null)

    def aligned(i: int, j: int) -> Array:
        return signs[i, j] * drawn_r[:, i, j]

    def of_fit(row: int) -> Statistic:
        return fitted(float(measured[row, 0]), drawn[row], carried[row], chance[row], n)

    order = tuple(correlation(abs(float(r[i, i])), aligned(i, i), null_r[:, i, i], n) for i in range(k))
    pairs = [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
    mean = np.mean([aligned(i, j) for i, j in pairs], axis=0)
    return ComponentMatching(
        k=k,
        order=order,
        assignment=tuple(
            ComponentMatch(i + 1, j + 1, chosen(abs(float(r[i, j])), aligned(i, j), assigned_null[:, i], n))
            for i, j in pairs
        ),
        assignment_mean=chosen(float(np.abs(r[rows, columns]).mean()), mean, assigned_null.mean(axis=1), n),
        procrustes=of_fit(0),
        rotated=tuple(of_fit(1 + i) for i in range(k)),
        canonical=tuple(of_fit(1 + k + i) for i in range(k)),
    )


def _moments(first: Array, second: Array, weights: Float[np.ndarray, "B n"]) -> _Moments:
    k = first.shape[1]
    both = np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)], axis=1)
    total = weights.sum(axis=1)[:, None]
    means = weights @ both / total
    products = np.einsum("ni,nj->nij", both, both).reshape(len(both), -1)
    squares = (weights @ products / total).reshape(-1, 2 * k, 2 * k)
    covariance = squares - means[:, :, None] * means[:, None, :]
    return _Moments(covariance[:, :k, :k], covariance[:, k:, k:], covariance[:, :k, k:])


def _permuted(first: Array, second: Array, permuted: Int[np.ndarray, "B n"]) -> _Moments:
    point = _moments(first, second, np.ones((1, len(first))))
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    between = np.einsum("ni,bnj->bij", a, b[permuted], optimize=True) / len(a)
    return _Moments(
        np.broadcast_to(point.first, between.shape), np.broadcast_to(point.second, between.shape), between
    )


def _assigned(correlations: Float[np.ndarray, "B k k"]) -> Float[np.ndarray, "B k"]:
    """Return the |r| of each component of the first map in the best assignment of each draw."""
    sizes = np.abs(correlations)
    found = np.empty(sizes.shape[:2])
    for draw, table in enumerate(sizes):
        rows, columns = linear_sum_assignment(-table)
        found[draw, rows] = table[rows, columns]
    return found


def _fit(moments: _Moments) -> _Fit:
    left, _, right = np.linalg.svd(moments.between)
    whiteners = _whitener(moments.first), _whitener(moments.second)
    first, _, second = np.linalg.svd(whiteners[0] @ moments.between @ whiteners[1])
    return _Fit(
        # The rotation of the second map's loadings that brings them nearest to the first's.
        rotation=np.swapaxes(right, 1, 2) @ np.swapaxes(left, 1, 2),
        first=whiteners[0] @ first,
        second=whiteners[1] @ np.swapaxes(second, 1, 2),
    )


def _along(left: Array, middle: Array, right: Array) -> Float[np.ndarray, "B k"]:
    """Return the diagonal of left' middle right."""
    return np.einsum("bji,bji->bi", left, middle @ right)


def _whitener(covariance: Float[np.ndarray, "B k k"]) -> Float[np.ndarray, "B k k"]:
    """Return the inverse square root; directions without variance are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-12 * values[:, -1:]
    scale = np.where(kept, 1.0 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    return (vectors * scale[:, None, :]) @ np.swapaxes(vectors, 1, 2)


def _diagonal(matrices: Float[np.ndarray, "B k k"]) -> Float[np.ndarray, "B k"]:
    return np.diagonal(matrices, axis1=1, axis2=2)
