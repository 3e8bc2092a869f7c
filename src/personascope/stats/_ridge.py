"""Ridge regression with grouped cross-validation, for many targets at once.

It uses the closed form instead of a library's estimator: all targets share the features, so one decomposition
per training fold serves every penalty of every target.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray

ALPHAS: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-6, 9))
"""Penalties to choose from, 0.001 to 10,000: from hardly any shrinkage of unit embeddings to the mean
alone."""

NAIVE_ALPHA = 1.0
"""Penalty of the naive fit, a common library default."""


@dataclass(frozen=True, slots=True, eq=False)
class _Centred:
    """Decomposition of centred training rows: ``x = u * sqrt(values) @ axes.T``.

    Attributes:
        mean: Mean of the features.
        axes: Principal directions with non-zero variance.
        values: Sum of squares along each direction.
        scores: Coordinates of the rows along the directions.
    """

    mean: Float[Array, "width"]
    axes: Float[Array, "width rank"]
    values: Float[Array, "rank"]
    scores: Float[Array, "rows rank"]

    @classmethod
    def of(cls, x: Float[Array, "rows width"]) -> _Centred:
        mean = x.mean(axis=0)
        centred = x - mean
        if x.shape[0] >= x.shape[1]:
            values, axes = np.linalg.eigh(centred.T @ centred)
        else:
            values, sides = np.linalg.eigh(centred @ centred.T)
            axes = centred.T @ sides / np.sqrt(np.maximum(values, np.finfo(float).tiny))
        # Drop directions of rounding error, which the division above would blow up.
        kept = values > max(float(values[-1]), 0.0) * 1e-10
        return cls(mean, axes[:, kept], values[kept], centred @ axes[:, kept])


def folds_of(
    groups: Sequence[str], strata: Sequence[str], n_folds: int, rng: np.random.Generator
) -> Int[Array, "rows"]:
    """Assign rows to folds: groups stay whole, and the groups of each stratum are spread evenly.

    Args:
        groups: Group of each row.
        strata: Stratum of each row; a group has the stratum of its first row.
        n_folds: Number of folds; each gets a group if there are enough groups.
        rng: Random generator for the order of the groups.
    """
    stratum: dict[str, str] = {}
    for name, of in zip(groups, strata, strict=True):
        stratum.setdefault(name, of)
    names = sorted(stratum)
    shuffled = [names[i] for i in rng.permutation(len(names))]
    shuffled.sort(key=lambda name: stratum[name])
    fold = {name: place % n_folds for place, name in enumerate(shuffled)}
    return np.array([fold[name] for name in groups])


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Held-out predictions.

    Attributes:
        predicted: Prediction of each row while held out, for each target.
        alphas: Penalty chosen in each fold, for each target.
    """

    predicted: Float[Array, "rows targets"]
    alphas: Float[Array, "folds targets"]


def held_out_ridge(
    x: Float[Array, "rows width"],
    targets: Callable[[Bool[Array, "rows"]], Float[Array, "rows targets"]],
    fold: Int[Array, "rows"],
    inner: Sequence[Int[Array, "some"]],
    alphas: Sequence[float] = ALPHAS,
) -> Fit:
    """Predict every row by a ridge regression on the other folds.

    The penalty is chosen for each target by inner folds of the training rows, without the predicted fold.
    Ties go to the larger penalty.

    Args:
        x: Features.
        targets: Function from the mask of training rows to the targets, because some targets are residuals of
            training means.
        fold: Outer fold of each row, from 0.
        inner: For each outer fold, the inner fold of each of its training rows, in order.
        alphas: Penalties to choose from.
    """
    grid = np.sort(np.asarray(alphas, float))[::-1]
    predicted: Array = np.empty((0, 0))
    chosen: list[Float[Array, "targets"]] = []
    for number, training, test in splits(fold):
        y = targets(training)
        if not number:
            predicted = np.empty_like(y)
        errors = np.zeros((len(grid), y.shape[1]))
        rows = np.flatnonzero(training)
        for _, fit, check in splits(inner[number]):
            errors += _errors(x, y, rows[fit], rows[check], grid)
        best = grid[errors.argmin(axis=0)]
        predicted[test] = _predict(x[training], y[training], x[test], best)
        chosen.append(best)
    return Fit(predicted, np.stack(chosen))


def splits(fold: Int[Array, "rows"]) -> Iterator[tuple[int, Bool[Array, "rows"], Bool[Array, "rows"]]]:
    """Yield each fold's index, its mask of training rows, and its mask of test rows."""
    for number in range(int(fold.max()) + 1):
        test = fold == number
        yield number, ~test, test


def _errors(x: Array, y: Array, fit: Array, check: Array, grid: Array) -> Float[Array, "alphas targets"]:
    """Return the sum of squared errors on the rows ``check`` after a fit on ``fit``, at each penalty."""
    found = _Centred.of(x[fit])
    mean = y[fit].mean(axis=0)
    along = found.scores.T @ (y[fit] - mean)
    away = (x[check] - found.mean) @ found.axes
    rest = y[check] - mean
    return np.stack([((rest - (away / (found.values + alpha)) @ along) ** 2).sum(axis=0) for alpha in grid])


def _predict(x: Array, y: Array, new: Array, alphas: Array) -> Float[Array, "new targets"]:
    """Fit each target with its own penalty and predict new rows."""
    found = _Centred.of(x)
    mean = y.mean(axis=0)
    weights = found.scores.T @ (y - mean) / (found.values[:, None] + alphas[None])
    return (new - found.mean) @ found.axes @ weights + mean


def in_sample_r2(x: Float[Array, "rows width"], y: Float[Array, "rows"], alpha: float = NAIVE_ALPHA) -> float:
    """Return R2 of a fit on its own training rows."""
    predicted = _predict(x, y[:, None], x, np.array([alpha]))[:, 0]
    return float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def held_out_means(
    keys: Sequence[Hashable], y: Float[Array, "rows targets"], fold: Int[Array, "rows"]
) -> Float[Array, "rows targets"]:
    """Predict every row by the mean of the rows with its key in the other folds."""
    predicted = np.empty_like(y)
    for _, training, test in splits(fold):
        predicted[test] = means_by(keys, y, training)[test]
    return predicted


def means_by(
    keys: Sequence[Hashable], y: Float[Array, "rows targets"], training: Bool[Array, "rows"]
) -> Float[Array, "rows targets"]:
    """Predict every row by the training mean of its key, or of all training rows if none has its key."""
    names = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    place = np.array([names[key] for key in keys])
    sums = np.zeros((len(names), y.shape[1]))
    np.add.at(sums, place[training], y[training])
    counts = np.bincount(place[training], minlength=len(names))[:, None]
    table = np.where(counts > 0, sums / np.maximum(counts, 1), y[training].mean(axis=0))
    return table[place]
