"""Define the items, verdicts and statistics of judges, and the interface that every judge has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from personascope.errors import JudgeError
from personascope.judge._rubric import ROLE_SCORE, Rubric


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One response to judge, by default from 0 to 3 for how far it is in its role (section 2.1).

    Attributes:
        id: Id of the rollout, which the verdict carries back.
        role: Name of the role or trait, with spaces or underscores.
        description: Description of the role or trait in one line.
        system_prompt: System prompt that put the model in the role.
        question: Question that the model was asked.
        response: Response of the model.
        eval_prompt: Judging prompt that replaces the text of a score's rubric, with ``{question}`` and
            ``{answer}`` in it, as in the released files; None for the rubric's own text.
        rubric: Rubric with the labels to choose from. An evaluation without roles leaves role and description
            empty. For a base model, the question is the opening and the response its completion.

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
        """Refuse an evaluation prompt that leaves the response out or does not fit the rubric."""
        if self.eval_prompt is not None and "{answer}" not in self.eval_prompt:
            raise JudgeError(
                f"the eval_prompt of {self.role!r} has no {{answer}} in it",
                hint="put {question} and {answer} where the text of the rollout belongs",
            )
        if self.eval_prompt is not None and self.rubric.key != "score":
            raise JudgeError(
                f"item {self.id} has an eval_prompt, which would replace the labels of the rubric "
                f"{self.rubric.name!r}",
                hint="leave the eval_prompt out, or judge the item by a score",
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of a judge on one item.

    Attributes:
        id: Id of the item.
        score: Index into the labels of the item's rubric (0 to 3 for the score of a role), or None if
            the item could not be scored.
        reason: Short reason; for an item without a score, the error.
        judge: Name of the judge.
        calls: Number of HTTP calls for this item. It is 0 for offline judges, for cached verdicts, and for an
            item given up together with its judge (`JudgeStats.calls` still counts its calls).
        cached: Whether the score came from the cache on disk.
        probabilities: Probability of each label, [labels]; None from a judge that has none.
        label: Label in words ("0" to "3" for the score of a role), or None if there is no score.
        passing: Whether the same judge may score an item without a score later, because the server did not
            answer or was busy. It is false after a refusal or a reply without a label.
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
    """Running totals of judging.

    Attributes:
        calls: Number of HTTP calls sent.
        retries: Number of calls that were not the first for their item.
        cached: Number of items answered from the cache.
        prompt_tokens: Number of tokens sent, as the server counted them, or estimated where it did not say.
        completion_tokens: Number of tokens received, counted likewise.
        cost: Cost in the currency of the prices; None if no prices were given.
        errors: Number of failed calls or unscorable items by kind, such as "rate limit", "timeout", or
            "filtered" for what a content filter or the model itself refused.
        by_judge: Statistics of each judge of a chain by its name; empty for a single judge.
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
        """Return the totals of both; the cost adds up those that are known."""
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
    """Interface of a judge, which scores any number of items at the same time on one event loop.

    `JudgePool` runs a judge alongside whatever produces the items.
    """

    @property
    def name(self) -> str:
        """Name in verdicts, which is also a specification that `parse_judge` takes."""
        ...

    @property
    def stats(self) -> JudgeStats:
        """Snapshot of the statistics, which any thread may read."""
        ...

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item; an item that cannot be scored gives a verdict with score None.

        Raises:
            JudgeError: If the judge cannot go on with any item.
        """
        ...

    async def aclose(self) -> None:
        """Release what belongs to the running event loop; `score` may be used again in another."""
        ...
