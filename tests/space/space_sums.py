"""Synthetic fold sums with a planted axis and planted components."""

from __future__ import annotations

import numpy as np


class PlantedSums:
    """Roles along orthogonal components; the default far out on the first, plus noise per response."""

    def __init__(
        self,
        *,
        n_roles=40,
        n_folds=4,
        n_layers=2,
        d=48,
        per_fold=3,
        default_per_fold=40,
        somewhat=0,
        signal=1.0,
        noise=1.0,
        offset=30.0,
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        self.fold_design = None
        self.roles = tuple(f"role{i:03}" for i in range(n_roles))
        self.n_folds, self.n_layers, self.d_model = n_folds, n_layers, d
        self.basis = np.linalg.qr(rng.normal(size=(d, 4)))[0].T
        self.places = rng.normal(size=(n_roles, 4)) * np.array([4.0, 2.0, 1.0, 0.5]) * signal
        self.common = offset * rng.normal(size=d)
        means = self.common + self.places @ self.basis
        self.default_mean = self.common + signal * 10.0 * self.basis[0]
        self._counts = {
            "fully": np.full((n_roles, n_folds), per_fold),
            "plain": np.zeros((n_roles, n_folds), int),
            "somewhat": np.full((n_roles, n_folds), somewhat),
            "other": np.ones((n_roles, n_folds), int),
        }
        self._default_counts = np.full(n_folds, default_per_fold)
        self._sums = {}
        for layer in range(n_layers):
            for bucket, pull in (("fully", 0.0), ("somewhat", 0.4), ("other", 0.9)):
                at = means + pull * (self.default_mean - means)
                n = self._counts[bucket][:, :, None]
                wobble = noise * np.sqrt(n) * rng.normal(size=(n_roles, n_folds, d))
                self._sums[bucket, layer] = (n * at[:, None] + wobble).astype(np.float32)
            n = self._default_counts[:, None]
            wobble = noise * np.sqrt(n) * rng.normal(size=(n_folds, d))
            self._sums["default", layer] = (n * self.default_mean + wobble).astype(np.float32)

    def counts(self, bucket):
        return self._counts[bucket]

    def default_counts(self):
        return self._default_counts

    def sums(self, bucket, layer):
        return self._sums[bucket, layer]

    def default_sums(self, layer):
        return self._sums["default", layer]

    def role_mean(self, bucket, layer):
        total = self._sums[bucket, layer].astype(np.float64).sum(axis=1)
        return total / self._counts[bucket].sum(axis=1)[:, None]

    def default(self, layer):
        return self._sums["default", layer].astype(np.float64).sum(axis=0) / self._default_counts.sum()
