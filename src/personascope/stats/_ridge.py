"""Ridge regression that is scored on groups it has not seen, for many targets at once.

The closed form, rather than a library's estimator: the targets of all shuffles share the messages, and so
one decomposition of each training fold serves every strength of every target.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Array = np.ndarray

ALPHAS: tuple[float, ...] = tuple(10.0 ** (power / 2) for power in range(-6, 9))
"""Strengths to choose from, 0.001 to 10,000: hardly any shrinkage of unit embeddings, to the mean alone."""

NAIVE_ALPHA = 1.0
"""Strength of the naive fit: what a library does when nobody chooses."""


@dataclass(frozen=True, slots=True, eq=False)
class _Centred:
    """Training rows about their mean, decomposed: ``x = u * sqrt(values) @ axes.T``.

    Attributes:
        mean: Of the features.
        axes: Principal directions with any variance.
        values: Sum of squares along each.
        scores: The rows along them.
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
        # Directions that are rounding alone would be blown up by the division above, and predict nothing.
        kept = values > max(float(values[-1]), 0.0) * 1e-10
        return cls(mean, axes[:, kept], values[kept], centred @ axes[:, kept])


def folds_of(
    groups: Sequence[str], strata: Sequence[str], n_folds: int, rng: np.random.Generator
) -> Int[Array, "rows"]:
    """Return the fold of each row: groups stay whole, and those of one stratum are dealt out evenly.

    Args:
        groups: Name of each row's group.
        strata: Name of each row's stratum; a group's is that of its first row.
        n_folds: Number of folds; every one gets a group if there are that many.
        rng: Order in which groups are dealt.
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
    """Predictions for rows that were held out.

    Attributes:
        predicted: For each target.
        alphas: Strength chosen in each fold, for each target.
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

    The strength is chosen for each target by folds within the training rows; the fold that is predicted
    has no part in it. Equally good strengths give the stronger one.

    Args:
        x: Features.
        targets: Gives the targets from which rows are for training: some are residuals of training means.
        fold: Outer fold of each row, numbered from 0.
        inner: For each outer fold, the inner fold of each of its training rows, in their order.
        alphas: Strengths to choose from.
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
    """Give each fold's number, its training rows, and its test rows."""
    for number in range(int(fold.max()) + 1):
        test = fold == number
        yield number, ~test, test


def _errors(x: Array, y: Array, fit: Array, check: Array, grid: Array) -> Float[Array, "alphas targets"]:
    """Sum of squared errors on the rows ``check`` after a fit on ``fit``, at each strength."""
    found = _Centred.of(x[fit])
    mean = y[fit].mean(axis=0)
    along = found.scores.T @ (y[fit] - mean)
    away = (x[check] - found.mean) @ found.axes
    rest = y[check] - mean
    return np.stack([((rest - (away / (found.values + alpha)) @ along) ** 2).sum(axis=0) for alpha in grid])


def _predict(x: Array, y: Array, new: Array, alphas: Array) -> Float[Array, "new targets"]:
    """Fit each target with its own strength and predict new rows."""
    found = _Centred.of(x)
    mean = y.mean(axis=0)
    weights = found.scores.T @ (y - mean) / (found.values[:, None] + alphas[None])
    return (new - found.mean) @ found.axes @ weights + mean


def in_sample_r2(x: Float[Array, "rows width"], y: Float[Array, "rows"], alpha: float = NAIVE_ALPHA) -> float:
    """Return R2 of a fit on the very rows that it was fitted on."""
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
    """Predict every row by the training mean of its key, or of all training rows where none has its key."""
    names = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    place = np.array([names[key] for key in keys])
    sums = np.zeros((len(names), y.shape[1]))
    np.add.at(sums, place[training], y[training])
    counts = np.bincount(place[training], minlength=len(names))[:, None]
    table = np.where(counts > 0, sums / np.maximum(counts, 1), y[training].mean(axis=0))
    return table[place]
