"""A map of made-up vectors, and a model whose second reply is harmful by where its first one lay."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from personascope.corpus import Corpus, Question, RoleEntry
from personascope.engines import Completion, EngineInfo, Request
from personascope.errors import EngineError
from personascope.interventions import CapStats
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.space import MapMeta, MapModel, PersonaMap, Quantiles, build_space, projection_quantiles

N_LAYERS, D = 5, 48


def number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")


def chance(text: str) -> float:
    return number(text) / 2**48


def role_names(count: int) -> tuple[str, ...]:
    return tuple(f"role{place:03d}" for place in range(count))


def corpus(n_roles: int = 40, n_questions: int = 12) -> Corpus:
    return Corpus(
        "fake",
        tuple(
            RoleEntry(name, "g", f"One of them, {name}.", tuple(f"Be {name}, way {way}." for way in range(3)))
            for name in role_names(n_roles)
        ),
        tuple(Question(f"q{q}", f"area{q % 3}", f"What of {q}?") for q in range(n_questions)),
        ("", "You are {model_name}."),
        "test",
    )


class _Sums:
    """Roles that differ from each other, and a default that lies apart."""

    fold_design = None

    def __init__(self, n_roles: int) -> None:
        rng = np.random.default_rng(0)
        self.roles, self.n_folds, self.n_layers, self.d_model = role_names(n_roles), 3, N_LAYERS, D
        self._means = 5 * rng.normal(size=D) + rng.normal(size=(N_LAYERS, n_roles, 1, D))
        self._default = self._means.mean((1, 2)) + 2 * rng.normal(size=(N_LAYERS, D))

    def counts(self, bucket: str) -> np.ndarray:
        return np.full((len(self.roles), self.n_folds), 4 if bucket == "fully" else 0)

    def default_counts(self) -> np.ndarray:
        return np.full(self.n_folds, 10)

    def sums(self, bucket: str, layer: int) -> np.ndarray:
        rows = np.repeat(self._means[layer], self.n_folds, 1)
        return (self.counts(bucket)[..., None] * rows).astype(np.float32)

    def default_sums(self, layer: int) -> np.ndarray:
        return np.repeat(10 * self._default[layer][None], self.n_folds, 0).astype(np.float32)


def save_map(folder: Path, n_roles: int = 40) -> PersonaMap:
    space = build_space(_Sums(n_roles), min_fully=4, n_boot=3, n_splits=2)
    sample = [np.random.default_rng(1).normal(size=(6, N_LAYERS, D))]
    quantiles = Quantiles(projection_quantiles(space.axis, sample), projection_quantiles(space.axis, sample))
    meta = MapMeta(
        model=MapModel("lab/hash", "r1", "float32", N_LAYERS, D, "chat"),
        corpus_digest="c0",
        versions={},
        command="map lab/hash",
        response_norms=np.full(N_LAYERS, 10.0),
        quantiles=quantiles,
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)


class FakeEngine:
    """Places first replies at a position of the role's own, and answers harmfully with ``rate(position)``.

    Completions come in a scrambled order. After ``fails_after`` of them the engine dies.
    """

    def __init__(
        self,
        found: PersonaMap,
        rate: Callable[[float], float] = lambda at: 1 / (1 + math.exp(0.5 + 2 * at)),
        *,
        fails_after: int | None = None,
        silent: str = "",
    ) -> None:
        self.persona_map, self.rate, self.fails_after, self.silent = found, rate, fails_after, silent
        self.info = EngineInfo("fake", "lab/hash", "r1", N_LAYERS, D, "float32", "chat", {})
        self.asked: list[str] = []
        self.requests: dict[str, Request] = {}

    def position(self, opening: str) -> float:
        role = opening.split("/")[0]
        centre = 1.0 if role == "default" else 1.6 * chance(role) - 0.8
        return centre + 0.6 * (chance(opening) - 0.5)

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        requests = list(requests)
        random.Random(0).shuffle(requests)
        for request in requests:
            if self.fails_after is not None and len(self.asked) >= self.fails_after:
                raise EngineError("the machine is gone")
            self.asked.append(request.id)
            self.requests[request.id] = request
            kind, name = request.id.split("|")
            yield (self._first if kind == "first" else self._second)(request, name)

    def _first(self, request: Request, opening: str) -> Completion:
        roles = [message.role for message in request.prompt]  # pyright: ignore
        assert roles in (["system", "user"], ["user"])
        assert request.capture is not None
        (layer,) = request.capture.layers or ()
        if self.silent and opening.startswith(self.silent):
            return self._done(request, "", 0)
        at = self.position(opening)
        axis = self.persona_map.unit_axis(layer).astype(np.float64)
        stats = self.persona_map.stats
        zero, one = stats.mean_projection[layer], stats.default_projection[layer]
        other = np.random.default_rng(number(opening)).normal(size=D)
        vector = other - (other @ axis) * axis + (zero + at * (one - zero)) * axis
        return self._done(request, f"I lie at {at:.6f}", 5, vector[None].astype(np.float32))

    def _second(self, request: Request, trial: str) -> Completion:
        messages = [message for message in request.prompt if not isinstance(message, int)]
        assert [m.role for m in messages][-3:] == ["user", "assistant", "user"]
        assert request.capture is None
        at = float(messages[-2].content.rsplit(" ", 1)[1])
        harmful = chance(f"{request.seed} harm {trial}") < self.rate(at)
        return self._done(request, f"{'yes' if harmful else 'no'}, {trial}", 3)

    def _done(self, request: Request, text: str, tokens: int, pooled: np.ndarray | None = None) -> Completion:
        plan = request.plan
        return Completion(
            request.id,
            text,
            tuple(range(tokens)),
            "stop",
            4,
            pooled,
            tokens,
            plan_digest=None if plan is None else plan.digest,
            cap_stats=None if plan is None else CapStats(tokens + 4, 2),
        )


class YesJudge:
    """Labels what begins with "yes" as enough, the rest as a refusal; fails where it is told to."""

    def __init__(self, fails: Callable[[JudgeItem], bool] = lambda _: False, name: str = "yes") -> None:
        self.fails, self.name = fails, name
        self.asked: list[str] = []
        self.stats = JudgeStats()

    async def score(self, item: JudgeItem) -> Verdict:
        self.asked.append(item.id)
        if self.fails(item):
            return Verdict(item.id, None, "told to fail", self.name)
        label = "enough" if item.response.startswith("yes") else "refusal"
        return Verdict(item.id, item.rubric.index(label), "by rule", self.name, label=label)

    async def aclose(self) -> None:
        return None
