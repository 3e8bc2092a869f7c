"""Dimensionality of the shared roles in each map, and directions of two maps in the same coordinates.

Everything follows from the inner products of the shared role vectors and the default, so a bootstrap draw
never touches the width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import wishart

from personascope.comparison._resample import Draws, fisher, positive, share, t_value, tested
from personascope.comparison._types import DefaultPlaces, Dimensions, Geometry, PairFigure, Statistic
from personascope.comparison._views import MapView
from personascope.stats import paired_difference, share_interval

Array = np.ndarray

SPACE_DRAWS = 400
"""Bootstrap draws at most of figures that need an eigendecomposition in each."""


def default_places(first: MapView, second: MapView, rows: tuple[Array, Array], seed: int) -> DefaultPlaces:
    """Return the share of the shared roles below the default on the axis and on PC1.

    The intervals are those of shares of roles; that of the difference pairs the roles.
    """

    def compared(below: tuple[Array, Array]) -> PairFigure:
        shares = [share_interval(one) for one in below]
        less = paired_difference(below[1], below[0], seed=seed)
        ends = [Statistic(one.estimate, one.low, one.high) for one in shares]
        return PairFigure(ends[0], ends[1], Statistic(less.estimate, less.low, less.high))

    views = (first, second)
    axis = [view.projections[at] < view.default_projection for view, at in zip(views, rows, strict=True)]
    pc1 = [view.loadings[at, 0] < view.default_loadings[0] for view, at in zip(views, rows, strict=True)]
    return DefaultPlaces(
        compared((axis[0].astype(float), axis[1].astype(float))),
        compared((pc1[0].astype(float), pc1[1].astype(float))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Spectrum:
    """Principal components of weighted roles, by their coefficients on the centred role vectors.

    Attributes:
        values: Variances, in descending order.
        coefficients: Coefficients of the k first unit components, [n, k].
    """

    values: Float[np.ndarray, "n"]
    coefficients: Float[np.ndarray, "n k"]

    @property
    def dimensions(self) -> tuple[float, float, float]:
        """Components for 70% of the variance, share of the first, participation ratio."""
        values = self.values / self.values.sum()
        needed = int(np.searchsorted(np.cumsum(values), 0.7 - 1e-12)) + 1
        return float(needed), float(values[0]), float(1.0 / np.square(values).sum())


def _spectrum(products: Float[np.ndarray, "n n"], weights: Float[np.ndarray, "n"], k: int) -> _Spectrum:
    """Return the PCA of roles with these weights from the inner products of their vectors."""
    kept = np.flatnonzero(weights)
    gram, w = products[np.ix_(kept, kept)], weights[kept] / weights.sum()
    means = gram @ w
    centred = gram - means[:, None] - means[None, :] + w @ means
    root = np.sqrt(w)
    values, sides = np.linalg.eigh(root[:, None] * centred * root)
    values, sides = np.maximum(values[::-1], 0.0), sides[:, ::-1][:, :k]
    # A component is the sum over roles of coefficient times (vector - weighted mean).
    raw = root[:, None] * sides / np.sqrt(np.maximum(values[:k], 1e-300))
    coefficients = np.zeros((len(weights), k))
    coefficients[kept] = raw - w[:, None] * raw.sum(axis=0)
    return _Spectrum(values, coefficients)


@dataclass(frozen=True, slots=True, eq=False)
class SharedSpaces:
    """PCA of the shared roles of two maps, as measured and in every bootstrap draw."""

    vectors: tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n e"]]
    point: tuple[_Spectrum, _Spectrum]
    drawn: tuple[tuple[_Spectrum, _Spectrum], ...]
    n: int

    @staticmethod
    def make(
        first: MapView, second: MapView, rows: tuple[Array, Array], k: int, draws: Draws
    ) -> SharedSpaces:
        """Compute them; both maps have the same roles in a draw."""
        vectors = (first.vectors[rows[0]], second.vectors[rows[1]])
        centred = [one - one.mean(axis=0) for one in vectors]
        products = [one @ one.T for one in centred]
        weights = draws.weights[:SPACE_DRAWS]
        even = np.ones(weights.shape[1])
        return SharedSpaces(
            vectors,
            (_spectrum(products[0], even, k), _spectrum(products[1], even, k)),
            tuple((_spectrum(products[0], w, k), _spectrum(products[1], w, k)) for w in weights),
            weights.shape[1],
        )

    def dimensions(self) -> Dimensions:
        """Return the dimensionality of both, and the ratio of the second to the first."""
        point = np.array([spectrum.dimensions for spectrum in self.point])
        drawn = np.array([[spectrum.dimensions for spectrum in pair] for pair in self.drawn])
        made = [
            PairFigure(
                positive(float(point[0, i]), drawn[:, 0, i], self.n),
                positive(float(point[1, i]), drawn[:, 1, i], self.n),
                positive(float(point[1, i] / point[0, i]), drawn[:, 1, i] / drawn[:, 0, i], self.n),
            )
            for i in range(3)
        ]
        return Dimensions(*made)


def geometry(first: MapView, second: MapView, spaces: SharedSpaces, draws: Draws, seed: int) -> Geometry:
    """Compare the axes and the first k components of two maps of one width.

    The null of the axes' cosine lets every shared role stand for the default of the second map, and the
    default for that role. The null of the overlap is subspaces in random directions.
    """
    n, k = spaces.n, spaces.point[0].coefficients.shape[1]
    cosine = float(np.clip(first.axis @ second.axis, -1.0, 1.0))
    drawn, null = _axis_cosines(first, second, spaces.vectors, draws)
    half = fisher(drawn).std().item() * t_value(n)
    low, high = np.tanh([fisher(cosine) - half, fisher(cosine) + half]).tolist()
    cosines = np.clip(
        np.linalg.svd(first.components[:k] @ second.components[:k].T, compute_uv=False), 0.0, 1.0
    )
    centred = [one - one.mean(axis=0) for one in spaces.vectors]
    between = centred[0] @ centred[1].T
    overlaps = [np.square(a.coefficients.T @ between @ b.coefficients).sum() / k for a, b in spaces.drawn]
    random = _random_overlaps(len(first.axis), k, len(draws.drawn), seed)
    return Geometry(
        tested(cosine, low, high, null),
        share(float(np.square(cosines).mean()), np.array(overlaps), random, n),
        tuple(np.degrees(np.arccos(cosines)).tolist()),
    )


def _axis_cosines(
    first: MapView, second: MapView, vectors: tuple[Array, Array], draws: Draws
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "n"]]:
    """Return cosines of the axes over resampled roles, and with each role in the default's place."""
    a, b = first.default - vectors[0], second.default - vectors[1]
    weights = draws.weights / len(a)

    def length(rows: Array) -> Array:
        return np.sqrt(
            np.maximum(np.einsum("bi,ij,bj->b", weights, rows @ rows.T, weights, optimize=True), 0)
        )

    drawn = np.einsum("bi,ij,bj->b", weights, a @ b.T, weights, optimize=True) / (length(a) * length(b))
    everyone = np.concatenate([vectors[1], second.default[None]])
    total = everyone.sum(axis=0)
    # The mean of all others takes the place of the mean role.
    swapped = vectors[1] - (total - vectors[1]) / len(vectors[1])
    axis = a.mean(axis=0)
    sizes = np.linalg.norm(swapped, axis=1) * np.linalg.norm(axis)
    return np.clip(drawn, -1.0, 1.0), (swapped @ axis) / np.maximum(sizes, 1e-300)


def _random_overlaps(d: int, k: int, draws: int, seed: int) -> Float[np.ndarray, "B"]:
    """Return overlaps of a subspace of dimension k with random ones: the trace of a matrix beta variable."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[2])
    scale = np.eye(k)
    inside = np.reshape(wishart.rvs(k, scale, draws, rng), (draws, k, k))
    outside = np.reshape(wishart.rvs(d - k, scale, draws, rng), (draws, k, k))
    return np.trace(np.linalg.solve(inside + outside, inside), axis1=1, axis2=2) / k
