"""The values that go into a judge and come out of it, and what every judge offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from personascope.errors import JudgeError
from personascope.judge._rubric import ROLE_SCORE, Rubric


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One response to be judged: by default from 0 to 3 for how far it is in its role (section 2.1).

    Attributes:
        id: The rollout's id; the verdict carries it back.
        role: The role's name, with spaces or underscores.
        description: The role in one line.
        system_prompt: The instruction that put the model in the role.
        question: What it was asked.
        response: What it said.
        eval_prompt: A judging prompt that replaces the text of the 0-3 score, with ``{question}`` and
            ``{answer}`` in it, as the released role files have; None for the rubric's own.
        rubric: The labels to choose from. An evaluation that has no role leaves role and description
            empty; for a base model the question is the opening and the response its completion.

    Raises:
        JudgeError: If an ``eval_prompt`` has no ``{answer}``, or goes with a rubric of labels.
    """

    id: str
    role: str
    description: str
    system_prompt: str
    question: str
    response: str
    eval_prompt: str | None = None
    rubric: Rubric = ROLE_SCORE

    def __post_init__(self) -> None:
        """Refuse an evaluation prompt that would leave the response out."""
        if self.eval_prompt is not None and "{answer}" not in self.eval_prompt:
            raise JudgeError(
                f"the eval_prompt of the role {self.role!r} has no {{answer}} in it",
                hint="put {question} and {answer} where the text of the rollout belongs",
            )
        if self.eval_prompt is not None and self.rubric.key != "score":
            raise JudgeError(
                f"item {self.id} has an eval_prompt, which would replace the labels of the rubric "
                f"{self.rubric.name!r}",
                hint="leave the eval_prompt out, or judge the item by the 0-3 score",
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said of one item.

    Attributes:
        id: The item's id.
        score: Index into the labels of the item's rubric (0 to 3 for the score of a role), or None if
            the item could not be scored.
        reason: A short reason; for an item without a score, the error.
        judge: The judge's name.
        calls: HTTP calls made for this item; 0 for offline judges, for cached verdicts, and for an
            item given up together with its judge (`JudgeStats.calls` still counts its calls).
        cached: Whether the score came from the cache on disk.
        probabilities: Probability of each label, [labels], from a judge that knows them.
        label: The label in words ("0" to "3" for the score of a role), or None like the score.
        passing: Whether an item without a score may get one from the same judge at another time: the
            server did not answer, or was busy. A refusal or a reply without a label does not pass.
    """

    id: str
    score: int | None
    reason: str
    judge: str
    calls: int = 0
    cached: bool = False
    probabilities: tuple[float, ...] | None = None
    label: str | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class JudgeStats:
    """What judging took so far.

    Attributes:
        calls: HTTP calls sent.
        retries: Those of them that were not the first for their item.
        cached: Items answered from the cache.
        prompt_tokens: Tokens sent, as the server counted them, or estimated where it did not say.
        completion_tokens: Tokens received, counted likewise.
        cost: In the currency of the prices; None if no prices were given.
        errors: Failed calls or unscorable items by kind, such as "rate limit", "timeout", or "filtered" for
            what a content filter or the model itself turned away.
        by_judge: Of a chain of judges, what each of them took, by its name; empty for a single judge.
    """

    calls: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict[str, int])
    by_judge: Mapping[str, JudgeStats] = field(default_factory=dict[str, "JudgeStats"])

    def __add__(self, other: JudgeStats) -> JudgeStats:
        """Return what both took together; the cost is that of those that have one."""
        costs = [stats.cost for stats in (self, other) if stats.cost is not None]
        names = [*self.by_judge, *(name for name in other.by_judge if name not in self.by_judge)]
        nothing = JudgeStats()
        return JudgeStats(
            calls=self.calls + other.calls,
            retries=self.retries + other.retries,
            cached=self.cached + other.cached,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=sum(costs) if costs else None,
            errors=dict(Counter(self.errors) + Counter(other.errors)),
            by_judge={
                name: self.by_judge.get(name, nothing) + other.by_judge.get(name, nothing) for name in names
            },
        )


@runtime_checkable
class Judge(Protocol):
    """Scores items, any number of them at the same time on one event loop.

    `JudgePool` runs a judge beside whatever produces the items.
    """

    @property
    def name(self) -> str:
        """Name that verdicts carry, and the specification that `parse_judge` would make it from."""
        ...

    @property
    def stats(self) -> JudgeStats:
        """A snapshot; may be read from any thread."""
        ...

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item; an item that cannot be scored gives a verdict with score None.

        Raises:
            JudgeError: If the judge cannot go on with any item.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what belongs to the running event loop; `score` may be used again in another."""
        ...
