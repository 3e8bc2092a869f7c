"""A model that is a hash: deterministic text and activations from a request's id alone."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from personascope.corpus import Corpus, Question, RoleEntry
from personascope.engines import Completion, EngineInfo, Request, Scored, ScoreRequest
from personascope.errors import JudgeError
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.mapping import Profile, collect_rollouts, open_run, plan_run

SMALL = Profile("small", None, None, 4, 6, 8, min_fully=2, min_somewhat=2, crossed=True, keep=20)


def number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "little")


def corpus(n_roles: int = 6, n_questions: int = 8) -> Corpus:
    return Corpus(
        "fake",
        tuple(
            RoleEntry(
                f"role{r:03d}", "g", f"A role, the {r}th.", tuple(f"Be role {r}, way {p}." for p in range(5))
            )
            for r in range(n_roles)
        ),
        tuple(Question(f"q{q}", f"area{q % 3}", f"What of {q}?") for q in range(n_questions)),
        ("", "You are {model_name}."),
        "test",
    )


def logprobs(key: int, count: int) -> np.ndarray:
    return -np.random.default_rng(key).random(count, dtype=np.float32)


class FakeEngine:
    """Yields in a scrambled order, so that nothing can rest on the order of completions."""

    def __init__(
        self, n_layers: int = 3, d_model: int = 8, *, delay: float = 0.0, model: str = "lab/hash"
    ) -> None:
        self.info = EngineInfo("fake", model, "r1", n_layers, d_model, "float32", "chat", {"fake": "1"})
        self.delay = delay
        self.generated: list[str] = []
        self.scored: list[str] = []
        self.scramble = random.Random()

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        requests = list(requests)
        self.scramble.shuffle(requests)
        for request in requests:
            time.sleep(self.delay)
            self.generated.append(request.id)
            key = number(f"{request.seed}{request.id}")
            n_tokens = key % 7
            if request.id.endswith("q1/s0"):
                n_tokens += 1
            pooled = None
            if n_tokens:
                rng = np.random.default_rng(key)
                pooled = rng.standard_normal((self.info.n_layers, self.info.d_model), np.float32)
                pooled += number(request.id.split("/")[0]) % 5
            yield Completion(
                request.id,
                f"I am {request.id}",
                tuple(range(n_tokens)),
                "stop",
                len(request.prompt),
                pooled,
                n_tokens,
                logprobs=logprobs(key, n_tokens) if request.logprobs else None,
            )

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        requests = list(requests)
        self.scored += [request.id for request in requests]
        self.scramble.shuffle(requests)
        for request in requests:
            assert [message.role for message in request.prompt] == ["user"]
            yield Scored(request.id, logprobs(number(f"none {request.id}"), len(request.continuation)), False)

    def observe(self, conversation, *, capture=None, probes=()):
        raise NotImplementedError

    def count_tokens(self, conversation) -> int:
        return sum(len(message.content.split()) for message in conversation)


class FakeJudge:
    """Scores by a hash of the id; fails on a share of the items, or altogether after some."""

    name = "fake:1"

    def __init__(self, failing: int = 0, fatal_after: int | None = None) -> None:
        self.failing, self.fatal_after = failing, fatal_after
        self.seen: list[str] = []
        self.stats = JudgeStats()

    async def score(self, item: JudgeItem) -> Verdict:
        self.seen.append(item.id)
        if self.fatal_after is not None and len(self.seen) > self.fatal_after:
            raise JudgeError("the quota is spent")
        key = number(f"judge {item.id}")
        if key % 100 < self.failing:
            return Verdict(item.id, None, "timeout", self.name)
        return Verdict(item.id, (3, 3, 3, 2, 2, 1, 0)[key % 7], "because", self.name)

    async def aclose(self) -> None:
        pass


def design_for(engine: FakeEngine, profile: Profile = SMALL, unit_size: int = 16, **options):
    from dataclasses import replace

    made = plan_run(engine.info, options.pop("corpus", corpus()), profile, **options)
    return replace(made, unit_size=unit_size)


def run(out: Path, *, engine=None, judge=None, design=None, restart=False):
    engine = engine or FakeEngine()
    design = design or design_for(engine)
    with open_run(engine, design, out, judge, restart=restart) as folder:
        return collect_rollouts(engine, design, folder, judge, max_pending=8)
