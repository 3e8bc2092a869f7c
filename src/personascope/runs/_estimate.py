"""Estimates of what a long command takes, from a probe of a few of its requests on the model itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from personascope.chat import Conversation
from personascope.engines import (
    Capture,
    Completion,
    Engine,
    EngineInfo,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
)
from personascope.interventions import Plan
from personascope.judge import Judge, JudgeChain, OpenAIJudge, Rubric

PROBE = 16
"""Number of requests that a probe runs, spread over the command's own."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class WorkStep:
    """One part of a command's work, as estimated.

    Attributes:
        name: Name of the part, such as that of an evaluation.
        responses: Number of responses that are generated.
        passes: Number of given texts that are read in one forward pass each.
        prompt_tokens: Number of tokens that are read: prompts, and the given texts.
        response_tokens: Number of tokens that are generated.
        seconds: Time of the model, or of the computation; None if it was not measured.
        calls: Number of texts that a judge labels, or of messages that an auditor's server writes.
        sent: Number of tokens sent to a server for them; 0 without a server.
        received: Number of tokens received from it.
        cost: Cost of the server, in the currency of its prices; None without prices.
    """

    name: str
    responses: int = 0
    passes: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    seconds: float | None = None
    calls: int = 0
    sent: int = 0
    received: int = 0
    cost: float | None = None

    def __add__(self, other: WorkStep) -> WorkStep:
        """Return the sum of two parts, under the name of the first."""
        return WorkStep(
            self.name,
            self.responses + other.responses,
            self.passes + other.passes,
            self.prompt_tokens + other.prompt_tokens,
            self.response_tokens + other.response_tokens,
            _sum(self.seconds, other.seconds),
            self.calls + other.calls,
            self.sent + other.sent,
            self.received + other.received,
            _sum(self.cost, other.cost),
        )


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other


class Meter:
    """An engine that counts what is asked of another one, and the time that it takes.

    Attributes:
        engine: Engine that does the work.
        responses: Number of responses generated so far.
        passes: Number of given texts read so far.
        prompt_tokens: Number of tokens read so far.
        response_tokens: Number of tokens generated so far.
        seconds: Time spent in the engine so far.
    """

    def __init__(self, engine: Engine) -> None:
        """Start with nothing counted."""
        self.engine = engine
        self.responses = self.passes = self.prompt_tokens = self.response_tokens = 0
        self.seconds = 0.0

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model behind the engine."""
        return self.engine.info

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, and count it."""
        for done in self._timed(self.engine.run(requests)):
            self.responses += 1
            self.prompt_tokens += done.prompt_tokens
            self.response_tokens += len(done.token_ids)
            yield done

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Score every request, and count it."""
        asked = list(requests)
        for request in asked:
            self.passes += 1
            self.prompt_tokens += self._length(request.prompt) + len(request.continuation)
        yield from self._timed(self.engine.score(asked))

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Read a conversation, and count it."""
        more: dict[str, Any] = {} if tokens == "answer" else {"tokens": tokens}
        begun = time.monotonic()
        found = self.engine.observe(conversation, capture=capture, probes=probes, plan=plan, **more)
        self.seconds += time.monotonic() - begun
        self.passes += 1
        self.prompt_tokens += self._length(conversation)
        return found

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Tokenise a text."""
        return self.engine.encode(text, special=special)

    def decode(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens."""
        return self.engine.decode(tokens)

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the number of tokens of the rendered prompt."""
        return self.engine.count_tokens(conversation)

    def __getattr__(self, name: str) -> Any:
        """Return what else the engine has, such as its chat format."""
        return getattr(self.engine, name)

    def step(self, name: str, *, scale: float) -> WorkStep:
        """Return what was counted, times a factor: the size of the whole over that of the probe."""
        return WorkStep(
            name,
            round(self.responses * scale),
            round(self.passes * scale),
            round(self.prompt_tokens * scale),
            round(self.response_tokens * scale),
            self.seconds * scale,
        )

    def _length(self, prompt: Conversation | tuple[int, ...]) -> int:
        if all(isinstance(part, int) for part in prompt):
            return len(prompt)
        return self.engine.count_tokens(prompt)  # pyright: ignore[reportArgumentType]

    def _timed(self, results: Iterator[Item]) -> Iterator[Item]:
        while True:
            begun = time.monotonic()
            try:
                found = next(results)
            except StopIteration:
                return
            finally:
                self.seconds += time.monotonic() - begun
            yield found


def spread(count: int, probe: int = PROBE) -> list[int]:
    """Return the places of at most ``probe`` of ``count`` items, evenly spread and each once."""
    taken = min(count, probe)
    return [(2 * place + 1) * count // (2 * taken) for place in range(taken)]


def with_judging(
    step: WorkStep, judge: Judge | None, items: Sequence[tuple[Rubric, int]], mean_chars: float
) -> WorkStep:
    """Return a part with the judging of its responses.

    Args:
        step: Part of the work.
        judge: Judge, or None for no judge. Of a chain the first judge is taken. Tokens and cost are those of
            a server; the other judges cost nothing, and their time is not counted.
        items: Rubric and number of responses that it labels, for each rubric.
        mean_chars: Mean number of characters of a judged text with its system prompt and question.
    """
    if judge is None:
        return step
    first = judge.judges[0] if isinstance(judge, JudgeChain) else judge
    step = replace(step, calls=step.calls + sum(count for _, count in items))
    if not isinstance(first, OpenAIJudge):
        return step
    for rubric, count in items:
        found = first.estimate(count, mean_chars, rubric)
        step += WorkStep("", sent=found.prompt_tokens, received=found.completion_tokens, cost=found.cost)
    return step
