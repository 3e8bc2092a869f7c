"""A mapped tiny model, and a judge that answers by rule, fails when told to, and counts."""

from __future__ import annotations

import functools
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from personascope.corpus import Corpus, Question, RoleEntry
from personascope.engines import Completion, Request, TransformersEngine
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.mapping import Profile, run_map
from tiny import load_tiny

ROLES = ("captain", "gardener", "ghost", "judge", "poet", "robot", "tailor", "witch")


def corpus() -> Corpus:
    return Corpus(
        name="tiny",
        roles=tuple(
            RoleEntry(
                name=name,
                group="test",
                description=f"Lives as a {name} does.",
                prompts=(f"You are the {name}.",),
            )
            for name in ROLES
        ),
        questions=(
            Question(id="q0", area="test", text="What is rain?"),
            Question(id="q1", area="test", text="And money?"),
        ),
        default_prompts=("", "You are an AI assistant."),
        source="test",
    )


def engine() -> TransformersEngine:
    return TransformersEngine(load_tiny("llama"), max_batch=16)


@functools.cache
def tiny_run() -> Path:
    """Return the run folder of a map of the tiny llama, with every response kept."""
    folder = Path(tempfile.mkdtemp(prefix="personascope-tiny-run-"))
    profile = Profile("tiny", None, None, None, 6, 6, 1, 1, crossed=True, role_information=False, keep="all")
    result = run_map(engine(), corpus(), profile, out=folder / "run", judge=None, n_boot=10)
    assert result.space is not None
    return folder / "run"


class RuleJudge:
    """Labels by a checksum of the response; items for which ``fails`` holds get no label."""

    name = "test"

    def __init__(self, fails: Callable[[JudgeItem], bool] = lambda _: False) -> None:
        self.fails = fails
        self.asked: Counter[str] = Counter()

    @property
    def stats(self) -> JudgeStats:
        return JudgeStats(calls=sum(self.asked.values()))

    async def score(self, item: JudgeItem) -> Verdict:
        self.asked[item.id] += 1
        if self.fails(item):
            return Verdict(item.id, None, "told to fail", self.name)
        labels = item.rubric.labels
        index = zlib.crc32(item.response.encode()) % len(labels)
        return Verdict(item.id, index, "by rule", self.name, label=labels[index])

    async def aclose(self) -> None:
        return None


class Recording:
    """An engine that notes which requests reach it, and may do something to each completion."""

    def __init__(
        self, inner: TransformersEngine, change: Callable[[Completion], Completion] | None = None
    ) -> None:
        self.inner = inner
        self.change = change
        self.ids: list[str] = []
        self.scored: list[str] = []

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        asked = list(requests)
        self.ids += [request.id for request in asked]
        for completion in self.inner.run(asked):
            yield completion if self.change is None else self.change(completion)

    def score(self, requests):
        asked = list(requests)
        self.scored += [request.id for request in asked]
        return self.inner.score(asked)

    def __getattr__(self, name: str):
        return getattr(self.inner, name)
