"""Maps whose role vectors are given, of the form that a mapping run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personascope.space import (
    NUISANCES,
    MapChecks,
    MapMeta,
    MapModel,
    PersonaMap,
    Quantiles,
    build_space,
    projection_quantiles,
)

N_ROLES, D, N_LAYERS = 40, 24, 2
SPREADS = np.array([6.0, 4.0, 2.5, 1.6, 1.0])
"""Standard deviations of the roles along the first directions."""


def names(n: int = N_ROLES) -> tuple[str, ...]:
    return tuple(f"role{i:03}" for i in range(n))


def scores(n: int = N_ROLES, seed: int = 0) -> np.ndarray:
    """Loadings [n, 5] whose columns are uncorrelated, of the standard deviations SPREADS."""
    raw = np.random.default_rng(seed).normal(size=(n, 5))
    raw -= raw.mean(axis=0)
    return np.linalg.qr(raw)[0] * np.sqrt(n) * SPREADS


def vectors(loads: np.ndarray, *, d: int = D, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    """Role vectors [n, d]: loadings on random orthogonal directions, a common part, and noise."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (
        20 * rng.normal(size=d) + loads @ basis[: loads.shape[1]] + noise * rng.normal(size=(len(loads), d))
    )


class GivenSums:
    """Fold sums of role vectors without noise of responses, the same at every layer."""

    fold_design = None

    def __init__(self, roles: tuple[str, ...], rows: np.ndarray, default: np.ndarray, n_layers: int) -> None:
        self.roles, self.n_folds, self.n_layers, self.d_model = roles, 2, n_layers, rows.shape[1]
        self._rows, self._default = rows, default

    def counts(self, bucket: str) -> np.ndarray:
        return np.full((len(self.roles), self.n_folds), 5 if bucket == "fully" else 0)

    def default_counts(self) -> np.ndarray:
        return np.full(self.n_folds, 10)

    def sums(self, bucket: str, _layer: int) -> np.ndarray:
        return (self.counts(bucket)[..., None] * self._rows[:, None]).astype(np.float32)

    def default_sums(self, _layer: int) -> np.ndarray:
        return np.repeat(10 * self._default[None], self.n_folds, 0).astype(np.float32)


def save(
    folder: Path,
    rows: np.ndarray,
    *,
    roles: tuple[str, ...] | None = None,
    toward: int = 0,
    model: str = "some/model",
    corpus: str = "c0",
    tokens: str = "answer",
    garbled: float | None = None,
) -> PersonaMap:
    """Save a map of role vectors [n, d] and open it.

    Args:
        folder: Folder of the map.
        rows: Role vectors.
        roles: Their names.
        toward: Row beyond which the default lies, seen from the mean role.
        model: Id of the model.
        corpus: Digest of the corpus.
        tokens: Part of the responses that was pooled.
        garbled: Share of garble among the responses; None for a map without checks.
    """
    roles = roles or names(len(rows))
    default = rows.mean(axis=0) + 2 * (rows[toward] - rows.mean(axis=0))
    space = build_space(
        GivenSums(roles, rows, default, N_LAYERS), min_fully=4, n_boot=5, n_splits=3, middle_layer=1
    )
    d = rows.shape[1]
    found = projection_quantiles(space.axis, [np.random.default_rng(1).normal(size=(6, N_LAYERS, d))])
    checks = None
    if garbled is not None:
        checks = MapChecks(
            design="sampled (2)",
            profile={
                "name": "quick", "seed": 0, "roles": len(roles), "prompts": 2, "questions": 2,
                "max_new_tokens": 9,
            },
            vectors="rubric",
            threshold=None,
            roles={},
            cut=0.0,
            garbled=garbled,
            perplexity=None,
            correlations=np.zeros((N_LAYERS, len(NUISANCES), 4)),
            n_roles=len(roles),
        )  # fmt: skip
    meta = MapMeta(
        model=MapModel(model, "abc", "bfloat16", N_LAYERS, d, "f00d", tokens=tokens),
        corpus_digest=corpus,
        versions={},
        command="map some/model",
        response_norms=np.ones(N_LAYERS),
        quantiles=Quantiles(found, found),
        checks=checks,
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)
