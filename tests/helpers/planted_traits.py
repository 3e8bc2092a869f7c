"""A model whose traits are planted along known directions, and a judge that reads a pole off the id."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from helpers.trait_files import NAMES, write_ours
from personascope.corpus import Question, TraitSet, load_traits
from personascope.engines import Completion, EngineInfo, Request
from personascope.errors import JudgeError
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.space import MapMeta, MapModel, PersonaMap, Quantiles, build_space, projection_quantiles
from personascope.trait_vectors import TraitProfile, TraitsResult, run_traits

N_LAYERS, D = 3, 24
BANK = tuple(Question(f"q{n}", f"area{n % 3}", f"What of {n}?", ("view", "advice")[n % 2]) for n in range(40))
SMALL = TraitProfile("small", None, 3, 6, 8, min_pairs=2, keep=10)
PLANTED = {"grounded": 1.0, "dramatic": -1.0}
"""Trait -> cosine of its direction with the axis; the other traits lie orthogonal to it."""


def number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")


class _Sums:
    fold_design = None

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.roles, self.n_folds, self.n_layers, self.d_model = ("ant", "bee", "cat", "dog"), 3, N_LAYERS, D
        self.means = rng.normal(size=(N_LAYERS, 4, 1, D)) + 0.1 * rng.normal(size=(N_LAYERS, 4, 3, D))
        self.default = self.means.mean((1, 2)) + 2 * rng.normal(size=(N_LAYERS, D))

    def counts(self, bucket: str) -> np.ndarray:
        return np.full((4, 3), 4 if bucket == "fully" else 0)

    def default_counts(self) -> np.ndarray:
        return np.full(3, 10)

    def sums(self, bucket: str, layer: int) -> np.ndarray:
        return self.counts(bucket)[..., None] * self.means[layer].astype(np.float32)

    def default_sums(self, layer: int) -> np.ndarray:
        return np.repeat(10 * self.default[layer][None], 3, 0).astype(np.float32)


def save_map(folder: Path) -> PersonaMap:
    """Build, save and open a map of the model below, without a run."""
    space = build_space(_Sums(), min_fully=4, n_boot=5, n_splits=3)
    sample = [np.random.default_rng(1).normal(size=(6, N_LAYERS, D))]
    quantiles = Quantiles(projection_quantiles(space.axis, sample), projection_quantiles(space.axis, sample))
    model = MapModel("lab/planted", "r1", "float32", N_LAYERS, D, "chat")
    PersonaMap.save(folder, space, MapMeta(model, "c0", {}, "", 10.0 + np.arange(N_LAYERS), quantiles))
    return PersonaMap.open(folder)


class PlantedEngine:
    """Yields in a scrambled order; a pair's responses lie apart along the direction of their trait."""

    def __init__(self, axis: np.ndarray, *, noise: float = 0.2, strength: float = 2.0) -> None:
        n_layers, d = axis.shape
        self.info = EngineInfo("fake", "lab/planted", "r1", n_layers, d, "float32", "chat", {"fake": "1"})
        self.unit = axis / np.linalg.norm(axis, axis=1, keepdims=True)
        self.noise, self.strength = noise, strength
        self.generated: list[str] = []
        self.requests: list[Request] = []
        self.scramble = random.Random()

    def direction(self, trait: str) -> np.ndarray:
        """Return the unit direction [L, d] of a trait."""
        cosine = PLANTED.get(trait, 0.0)
        other = np.random.default_rng(number(trait)).normal(size=self.unit.shape)
        other -= (other * self.unit).sum(axis=1, keepdims=True) * self.unit
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        return cosine * self.unit + np.sqrt(1 - cosine**2) * other

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        requests = list(requests)
        self.scramble.shuffle(requests)
        for request in requests:
            self.generated.append(request.id)
            self.requests.append(request)
            trait, pole = request.id.removeprefix("trait|").split("/")[:2]
            rng = np.random.default_rng(number(f"{request.seed}{request.id}"))
            pooled = 5 + self.noise * rng.standard_normal(self.unit.shape)
            pooled += (self.strength / 2 if pole == "+" else -self.strength / 2) * self.direction(trait)
            yield Completion(
                request.id, f"I am {request.id}", (1, 2, 3), "stop", 5, pooled.astype(np.float32), 3
            )

    def score(self, requests):
        raise NotImplementedError

    def observe(self, conversation, *, capture=None, probes=()):
        raise NotImplementedError

    def count_tokens(self, conversation) -> int:
        return sum(len(message.content.split()) for message in conversation)


class PoleJudge:
    """Scores a positive response 90 and a negative one 10, unless told otherwise; 101 is a refusal."""

    name = "fake:poles"

    def __init__(self, *, scores=None, failing: int = 0, fatal_after: int | None = None) -> None:
        self.scores = scores or {}
        self.failing, self.fatal_after = failing, fatal_after
        self.seen: list[JudgeItem] = []
        self.stats = JudgeStats()

    async def score(self, item: JudgeItem) -> Verdict:
        self.seen.append(item)
        if self.fatal_after is not None and len(self.seen) > self.fatal_after:
            raise JudgeError("the quota is spent")
        if number(f"judge {item.id}") % 100 < self.failing:
            return Verdict(item.id, None, "the reply gives no score", self.name)
        found = self.scores.get(item.id, 90 if "/+/" in item.id else 10)
        return Verdict(item.id, found, "because", self.name)

    async def aclose(self) -> None:
        pass


def traits(folder: Path, names: tuple[str, ...] = NAMES) -> TraitSet:
    return load_traits(write_ours(folder, names))


def run(
    folder: Path,
    *,
    engine=None,
    judge: PoleJudge | None = None,
    profile: TraitProfile = SMALL,
    found: TraitSet | None = None,
    **options,
) -> TraitsResult:
    """Map the planted model if it has no map yet, and run traits on it."""
    persona_map = PersonaMap.open(folder) if (folder / "map").is_dir() else save_map(folder / "map")
    if found is None:
        texts = folder / "texts"
        found = load_traits(texts) if texts.is_dir() else traits(texts)
    engine = engine or PlantedEngine(persona_map.axis.astype(np.float64))
    return run_traits(
        engine,
        persona_map,
        found,
        BANK,
        profile,
        out=folder / "traits" / "own",
        name="own",
        judge=judge,
        progress=False,
        max_pending=8,
        **{"seed": 0, **options},
    )
