"""A small map with random vectors, of the shape that a mapping run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personascope.space import MapMeta, MapModel, PersonaMap, Quantiles, build_space, projection_quantiles

N_LAYERS, D, ROLES = 4, 24, ("ant", "bee", "cat", "dog", "eel")


class RandomSums:
    """Fold sums of roles that differ from each other, and a default that lies apart."""

    fold_design = None

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.roles, self.n_folds, self.n_layers, self.d_model = ROLES, 3, N_LAYERS, D
        self._means = 5 * rng.normal(size=D) + rng.normal(size=(N_LAYERS, len(ROLES), 1, D))
        self._noise = 0.1 * rng.normal(size=(N_LAYERS, len(ROLES), self.n_folds, D))
        self._default = self._means.mean((1, 2)) + 2 * rng.normal(size=(N_LAYERS, D))

    def counts(self, bucket: str) -> np.ndarray:
        return np.full((len(ROLES), self.n_folds), 4 if bucket == "fully" else 0)

    def default_counts(self) -> np.ndarray:
        return np.full(self.n_folds, 10)

    def sums(self, bucket: str, layer: int) -> np.ndarray:
        return self.counts(bucket)[..., None] * (self._means[layer] + self._noise[layer]).astype(np.float32)

    def default_sums(self, layer: int) -> np.ndarray:
        return np.repeat(10 * self._default[layer][None], self.n_folds, 0).astype(np.float32)


def save_map(folder: Path) -> PersonaMap:
    """Build, save and open a map; its mean norms are 10, 11, 12, 13."""
    space = build_space(RandomSums(), min_fully=4, n_boot=5, n_splits=3)
    sample = [np.random.default_rng(1).normal(size=(6, N_LAYERS, D))]
    quantiles = Quantiles(projection_quantiles(space.axis, sample), projection_quantiles(space.axis, sample))
    meta = MapMeta(
        model=MapModel("some/model", "abc", "bfloat16", N_LAYERS, D, "f00d"),
        corpus_digest="c0",
        versions={},
        command="map some/model",
        response_norms=10.0 + np.arange(N_LAYERS),
        quantiles=quantiles,
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)
