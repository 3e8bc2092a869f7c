"""Made-up conversations with noise that depends on itself, a small map, and a run of dialogues."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personascope.dynamics import Dialogue, DriftRun, Turn
from personascope.space import MapMeta, MapModel, PersonaMap, Quantiles, build_space, projection_quantiles

ROLES = ("ant", "bee", "cat", "dog", "eel")


def noise(rng: np.random.Generator, count: int, length: int, rho: float = 0.4) -> np.ndarray:
    """Autoregressive noise of unit variance, [count, length]."""
    draws = rng.normal(size=(count, length))
    found = draws.copy()
    for step in range(1, length):
        found[:, step] = rho * found[:, step - 1] + np.sqrt(1 - rho**2) * draws[:, step]
    return found


def talks(
    rng: np.random.Generator, count: int, length: int, *, own: float = 0.0, rho: float = 0.4
) -> list[np.ndarray]:
    """Conversations of turns around 1, first replies higher, with levels of their own (in sd)."""
    usual = 1.0 + 0.5 * (np.arange(length) == 0)
    return list(usual + 0.2 * (noise(rng, count, length, rho) + own * rng.normal(size=(count, 1))))


def token_talks(
    rng: np.random.Generator, count: int, replies: int, tokens: int, *, own: float = 0.0
) -> list[list[np.ndarray]]:
    """Conversations of tokens: peculiar first tokens, noise that runs on from reply to reply."""
    usual = np.where(np.arange(tokens) == 0, -3.0, 1.0 - 0.5 / (1 + np.arange(tokens)))
    made = 0.5 * (noise(rng, count, replies * tokens) + own * rng.normal(size=(count, 1)))
    return [list(usual + one.reshape(replies, tokens)) for one in made]


class _Sums:
    """Fold sums of roles that differ from each other, and a default that lies apart."""

    fold_design = None

    def __init__(self, n_layers: int, d: int) -> None:
        rng = np.random.default_rng(0)
        self.roles, self.n_folds, self.n_layers, self.d_model = ROLES, 3, n_layers, d
        self._means = 5 * rng.normal(size=d) + rng.normal(size=(n_layers, len(ROLES), 1, d))
        self._noise = 0.1 * rng.normal(size=(n_layers, len(ROLES), self.n_folds, d))
        self._default = self._means.mean((1, 2)) + 2 * rng.normal(size=(n_layers, d))

    def counts(self, bucket: str) -> np.ndarray:
        return np.full((len(ROLES), self.n_folds), 4 if bucket == "fully" else 0)

    def default_counts(self) -> np.ndarray:
        return np.full(self.n_folds, 10)

    def sums(self, bucket: str, layer: int) -> np.ndarray:
        return self.counts(bucket)[..., None] * (self._means[layer] + self._noise[layer]).astype(np.float32)

    def default_sums(self, layer: int) -> np.ndarray:
        return np.repeat(10 * self._default[layer][None], self.n_folds, 0).astype(np.float32)


def save_monitor_map(
    folder: Path,
    *,
    n_layers: int = 5,
    d: int = 48,
    model: str = "tiny/llama",
    revision: str = "tiny-llama",
) -> PersonaMap:
    """Build, save and open a map of the shape of the tiny Llama."""
    space = build_space(_Sums(n_layers, d), min_fully=4, n_boot=5, n_splits=3)
    rng = np.random.default_rng(1)
    role, default = (projection_quantiles(space.axis, [rng.normal(size=(40, n_layers, d))]) for _ in "rd")
    meta = MapMeta(
        model=MapModel(model, revision, "float32", n_layers, d, "f00d"),
        corpus_digest="c0",
        versions={},
        command="map tiny",
        response_norms=np.ones(n_layers),
        quantiles=Quantiles(role, default),
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)


def drift_run(
    rng: np.random.Generator,
    per_domain: int = 40,
    turns: int = 10,
    tokens: int = 12,
    slopes: dict[str, float] | None = None,
) -> DriftRun:
    """A run of finished dialogues whose domains move by a slope of their own, in units a turn."""
    slopes = {"coding": 0.0, "writing": 0.0, "therapy": -0.15} if slopes is None else slopes
    zero, one = np.array([0.0, -4.0, 1.0]), np.array([1.0, 6.0, 2.0])
    dialogues: list[Dialogue] = []
    for domain, slope in slopes.items():
        for number, units in enumerate(talks(rng, per_domain, turns)):
            made: list[Turn] = []
            for turn, at in enumerate(units + slope * np.arange(turns)):
                each = at + 0.3 * rng.normal(size=tokens)
                raw = zero + each.mean() * (one - zero)
                made.append(Turn(turn, "u", "r", tokens, "stop", raw, zero[1] + each * (one[1] - zero[1])))
            ident = f"{domain}/p/{number}"
            dialogues.append(Dialogue(ident, domain, "p", str(number), number, tuple(made), "turns"))
    identity = {"model": {"id": "tiny/llama", "revision": "tiny-llama", "dtype": "float32"}, "map": "ab" * 32}
    return DriftRun(Path("runs/made-up"), 1, turns, tuple(dialogues), zero, one, {"identity": identity})
