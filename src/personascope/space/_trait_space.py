"""Compute trait vectors and their cosines with the axis from sums of pair differences (METHOD 1).

A trait's vector is the mean over its kept pairs of the positive response's activation minus the negative's.

Intervals are of the cosine with the given axis over new prompts and new questions. Their variance is a sum of
components between pairs of prompts and between questions, pooled over traits, since one trait has too few
prompts. The axis is taken as it is.

Two nulls say what a cosine means. In the first the poles of a trait are permuted: the sign of every fold is
drawn, so it is what a trait would show whose poles do not differ along the axis. In the second, pairs of
prompts from different traits, with poles drawn at random, make a pseudo-trait, so it is what system prompts
show that have no trait in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from personascope.errors import SpaceError
from personascope.space._positions import Z95, variance_components
from personascope.space._sums import FoldDesign

Array = np.ndarray

MIN_MIXED = 8
"""Minimum number of traits for pseudo-traits of pairs from different ones."""
MIN_SPACE = 3
"""Minimum number of traits for principal components."""
MAX_COMPONENTS = 10
MAX_RATIOS = 20
_CHUNK = 32


class PairSums(Protocol):
    """Protocol of float32 sums of pair differences by trait and fold, read one layer at a time."""

    @property
    def traits(self) -> tuple[str, ...]:
        """Names of the traits."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        ...

    @property
    def fold_design(self) -> FoldDesign:
        """Block of questions and pair of prompts of each fold."""
        ...

    def counts(self) -> Int64[np.ndarray, "traits folds"]:
        """Return the number of kept pairs in each sum."""
        ...

    def sums(self, layer: int) -> Float32[np.ndarray, "traits folds d"]:
        """Return the sums at one layer."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TraitSpace:
    """Trait vectors, their cosines with the axis, and their space; L layers, T traits, K components."""

    traits: tuple[str, ...]
    """Names of the T traits with a vector."""
    excluded: dict[str, int]
    """Trait -> number of kept pairs, for traits with too few for a vector."""
    min_pairs: int
    seed: int
    n_draws: int
    """Number of draws of either null."""
    vectors: Float32[np.ndarray, "L T d"]
    """Mean over kept pairs of positive minus negative; points toward the trait."""
    cosines: Float64[np.ndarray, "L T"]
    """Cosine of each trait vector with the axis; positive toward the Assistant."""
    cosine_interval: Float64[np.ndarray, "L T 2"]
    """95% interval of the cosine over new prompts and questions; NaN for a trait with pairs in one fold."""
    null_q95: Float64[np.ndarray, "L T"]
    """95% quantile of |cosine| when the poles of the trait's folds are permuted."""
    mixed_q95: Float64[np.ndarray, "L"]
    """95% quantile of |cosine| of pseudo-traits of pairs from different traits; NaN below 8 traits."""
    reliability: Float64[np.ndarray, "L T"]
    """Share of a vector's squared length that is not noise from prompts and questions, 0 to 1; NaN if the
    pairs do not allow an estimate."""
    mean: Float32[np.ndarray, "L d"]
    """Mean of the trait vectors."""
    components: Float32[np.ndarray, "L K d"]
    """Unit principal components of the trait vectors; none for fewer than 3 traits."""
    variance_ratio: Float64[np.ndarray, "L V"]
    """Share of the variance of each component; at most the first 20."""
    cos_axis_pc1: Float64[np.ndarray, "L"]
    """Cosine of the axis with the first component; NaN for fewer than 3 traits."""


def build_trait_space(
    sums: PairSums,
    axis: Float[np.ndarray, "L d"],
    *,
    min_pairs: int,
    n_draws: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TraitSpace:
    """Compute trait vectors, their cosines with an axis, and the principal components of trait space.

    One layer is read at a time. PCA is mean-centred and unscaled. The sign of the first component is that of
    the axis, and every further one makes its largest loading positive.

    Args:
        sums: Sums of pair differences.
        axis: Assistant Axis of every layer, of any norm.
        min_pairs: Minimum number of kept pairs for a trait vector; the paper takes 10.
        n_draws: Number of draws of either null.
        seed: Random seed of the draws.
        progress: Callback to call after each layer with (layers done, total layers).

    Raises:
        SpaceError: If no trait reaches ``min_pairs``, the axis is of another shape, or a sum is not finite.
    """
    counts = sums.counts()
    kept = counts.sum(axis=1)
    keep = np.flatnonzero(kept >= max(1, min_pairs))
    excluded = {name: int(kept[i]) for i, name in enumerate(sums.traits) if i not in set(keep.tolist())}
    if not len(keep):
        most = f"{int(kept.max())} at most" if len(kept) else "there are no traits"
        raise SpaceError(
            f"no trait has {min_pairs} kept pairs ({most})",
            hint="ask more questions, lower --min-pairs, or look at the judge's scores",
        )
    if len(axis) != sums.n_layers:
        raise SpaceError(f"the axis has {len(axis)} layers, and the traits {sums.n_layers}")
    counts = counts[keep]
    clusters = np.array(sums.fold_design.prompts)
    names = tuple(sums.traits[i] for i in keep)
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0]), (counts.shape[1], n_draws))
    mixed = _mixed_draws(counts, clusters, n_draws, rng)
    columns: dict[str, list[Array]] = {}
    for layer in range(sums.n_layers):
        rows = sums.sums(layer)[keep].astype(np.float64)
        if not np.isfinite(rows).all():
            raise SpaceError(f"pair differences at layer {layer} are not finite")
        for name, value in _layer(rows, counts, clusters, axis[layer], signs, mixed).items():
            columns.setdefault(name, []).append(np.asarray(value))
        if progress is not None:
            progress(layer + 1, sums.n_layers)
    stacked = {name: np.stack(values) for name, values in columns.items()}
    return TraitSpace(names, excluded, min_pairs, seed, n_draws, **stacked)


def _layer(
    rows: Array, counts: Array, clusters: Array, axis: Array, signs: Array, mixed: Array | None
) -> dict[str, Array]:
    unit = axis.astype(np.float64)
    unit = unit / np.linalg.norm(unit)
    total = counts.sum(axis=1)
    vectors = rows.sum(axis=1) / total[:, None]
    lengths = np.linalg.norm(vectors, axis=1)
    safe = np.where(lengths > 0, lengths, 1.0)
    # Sums of what each pair adds to the cosine.
    along = (rows @ unit) / safe[:, None]
    cosines = along.sum(axis=1) / total
    noise = variance_components(along, counts, clusters).of_means(counts, clusters)
    half = np.where((counts > 0).sum(axis=1) > 1, Z95 * np.sqrt(noise), np.nan)
    flipped = np.abs(along @ signs) / total[:, None]
    interval = np.clip(np.stack([cosines - half, cosines + half], axis=1), -1.0, 1.0)
    return {
        "vectors": vectors.astype(np.float32),
        "cosines": cosines,
        "cosine_interval": interval,
        "null_q95": np.quantile(flipped, 0.95, axis=1),
        "mixed_q95": np.asarray(_mixed_q95(rows, counts, mixed, unit)),
        "reliability": _reliability(rows, counts, clusters),
        **_components(vectors, unit),
    }


def _mixed_draws(counts: Array, clusters: Array, n: int, rng: np.random.Generator) -> Array | None:
    """Draw pseudo-traits: the trait of each fold, [n, F], and its sign in the last axis, [n, F, 2]."""
    n_traits, n_folds = counts.shape
    if n_traits < MIN_MIXED:
        return None
    slots, of_fold = np.unique(clusters, return_inverse=True)
    if len(slots) < 2:
        slots, of_fold = np.arange(n_folds), np.arange(n_folds)
    if len(slots) > n_traits:
        return None
    draws = np.empty((n, n_folds, 2), np.int64)
    for b in range(n):
        chosen = rng.choice(n_traits, len(slots), replace=False)
        poles = rng.choice(np.array([-1, 1]), len(slots))
        draws[b, :, 0], draws[b, :, 1] = chosen[of_fold], poles[of_fold]
    return draws


def _mixed_q95(rows: Array, counts: Array, draws: Array | None, unit: Array) -> float:
    if draws is None:
        return float("nan")
    folds = np.arange(rows.shape[1])
    found: list[Array] = []
    for start in range(0, len(draws), _CHUNK):
        chosen, poles = draws[start : start + _CHUNK, :, 0], draws[start : start + _CHUNK, :, 1]
        vectors = np.einsum("bfd,bf->bd", rows[chosen, folds], poles.astype(np.float64))
        lengths = np.linalg.norm(vectors, axis=1)
        there = (counts[chosen, folds] > 0).any(axis=1) & (lengths > 0)
        found.append(np.abs(vectors[there] @ unit) / lengths[there])
    values = np.concatenate(found)
    return float(np.quantile(values, 0.95)) if len(values) else float("nan")


def _reliability(rows: Array, counts: Array, clusters: Array) -> Array:
    """Return the share of each vector's squared length that is not noise, by its own analysis of variance."""
    n = counts.sum(axis=1)
    mean = rows.sum(axis=1) / n[:, None]
    within, free, between, slots, squares = (np.zeros(len(n)) for _ in range(5))
    for name in np.unique(clusters):
        of = clusters == name
        size = counts[:, of].sum(axis=1)
        centre = rows[:, of].sum(axis=1) / np.maximum(size, 1)[:, None]
        folds = rows[:, of] / np.maximum(counts[:, of], 1)[:, :, None]
        within += (counts[:, of] * np.square(folds - centre[:, None]).sum(axis=2)).sum(axis=1)
        free += np.maximum((counts[:, of] > 0).sum(axis=1) - 1, 0)
        between += size * np.square(centre - mean).sum(axis=1)
        slots += size > 0
        squares += np.square(size)
    response = within / np.where(free > 0, free, np.nan)
    weight = n - squares / n
    above = np.maximum(between - response * (slots - 1), 0.0)
    prompt = np.where(weight > 0, above / np.where(weight > 0, weight, 1.0), 0.0)
    noise = prompt * squares / np.square(n) + response / n
    length = np.square(mean).sum(axis=1)
    return np.clip(1.0 - noise / np.where(length > 0, length, np.inf), 0.0, 1.0)


def _components(vectors: Array, unit: Array) -> dict[str, Array]:
    n_traits, d = vectors.shape
    mean = vectors.mean(axis=0)
    if n_traits < MIN_SPACE:
        nothing = np.zeros((0, d), np.float32)
        return {
            "mean": mean.astype(np.float32),
            "components": nothing,
            "variance_ratio": np.zeros(0),
            "cos_axis_pc1": np.asarray(np.nan),
        }
    centred = vectors - mean
    _, spread, right = np.linalg.svd(centred, full_matrices=False)
    n_components = min(MAX_COMPONENTS, n_traits - 1, d)
    components = right[:n_components]
    loads = centred @ components.T
    peaks = loads[np.abs(loads).argmax(axis=0), np.arange(n_components)]
    peaks[0] = components[0] @ unit
    components = components * np.where(peaks < 0, -1.0, 1.0)[:, None]
    variance = np.square(spread)
    total = variance.sum()
    return {
        "mean": mean.astype(np.float32),
        "components": components.astype(np.float32),
        "variance_ratio": (variance / (total if total > 0 else 1.0))[: min(MAX_RATIOS, n_traits - 1)],
        "cos_axis_pc1": np.asarray(components[0] @ unit),
    }
