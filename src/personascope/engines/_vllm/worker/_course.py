"""The course of a response: the part of each of its tokens, where it ends, and where a gate opens.

All of it is a function of the tokens that were drawn so far and of their projections. The worker has the
tokens before every forward pass, since it feeds them. A token that passes again after a preemption is in the
part in which it was, and a gate acts on it if it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from personascope.chat import PARTS, ReplyReader
from personascope.engines._gate import AlarmState
from personascope.engines._vllm.request._reply_spec import ReplySpec
from personascope.errors import EngineError
from personascope.interventions import (
    Plan,
    TokenSpans,
    acts_on_response,
    plan_for_part,
    reply_parts,
    tokens_acted_on,
)

END = 1 << 60
"""Position beyond every token."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of a sequence to which the same is done.

    Attributes:
        begin: Position of the first token.
        end: Position after the last one.
        plan: Plan on them, with operations on any part; None for none.
        part: Their part: "prompt", a part of the response, or "" for the marks between those.
        gated: Whether the gate acts on them.
        over: Whether the response has ended before them, so that they do not count.
    """

    begin: int
    end: int
    plan: Plan | None
    part: str = ""
    gated: bool = False
    over: bool = False

    @property
    def here(self) -> Plan | None:
        """Plan on these tokens, whose operations on this part act on the response."""
        return None if self.plan is None else plan_for_part(self.plan, self.part)


@dataclass(slots=True, eq=False)
class Course:
    """Course of one response.

    Attributes:
        extent: Positions of prompt, response and turns in the sequence.
        plan: Plan of the request, or None.
        gate: Plan that an alarm switches on, or None.
        reader: Reader of the response's parts; None if they are known or it is all answer.
        limits: Limits of the response's parts, or None.
        select: Part of the response that is read.
        alarm: Running statistic of the gate, or None.
        probe: Column of the probe that it reads.
        heard: Part of the response that it reads.
        parts: Part of every response token so far, as known when it was fed; empty without a reader.
        end: Position after the last token that counts.
        gate_at: Position from which the gate acts.
        stopped: Whether the alarm ended the response.
        first: Position of the first token that passed through the model.
        told: Whether the scheduler has been told that the response is over.
    """

    extent: TokenSpans
    plan: Plan | None
    gate: Plan | None = None
    reader: ReplyReader | None = None
    limits: ReplySpec | None = None
    select: str = "response"
    alarm: AlarmState | None = None
    probe: int = 0
    heard: str = "response"
    parts: list[str] = field(default_factory=list[str])
    end: int = END
    gate_at: int = END
    stopped: bool = False
    first: int | None = None
    told: bool = False
    _known: bool = False
    _both: Plan | None = None

    def __post_init__(self) -> None:
        """Join the plan and the gate."""
        self._known = bool(self.parts)
        if self.gate is not None:
            plan = self.plan
            # A plan on the prompt alone has no effect any more once a gate opens.
            self._both = self.gate if plan is None or not acts_on_response(plan) else plan + self.gate

    @property
    def plans(self) -> list[Plan]:
        """Plans that act at some time: the request's, and with the gate."""
        return [plan for plan in (self.plan, self._both) if plan is not None]

    @property
    def variants(self) -> list[Plan]:
        """What these plans do to the tokens of each part."""
        parts = ("prompt", *PARTS, "")
        found = [plan_for_part(plan, part) for plan in self.plans for part in parts]
        return [plan for plan in dict.fromkeys(found) if plan is not None]

    @property
    def over(self) -> bool:
        """Whether the last token that counts is known."""
        return self.end < END

    @property
    def gated_plan(self) -> Plan | None:
        """Plan on the tokens on which the gate acts."""
        return self._both

    def feed(self, start: int, tokens: Sequence[int]) -> None:
        """Take up tokens that are about to pass; those that passed before change nothing.

        Args:
            start: Position of the first one.
            tokens: Their ids.

        Raises:
            EngineError: If a token of the response before them is missing.
        """
        if self.reader is None:
            return
        at = start - self.extent.prompt
        for place, token in enumerate(tokens, at):
            if place < len(self.parts):
                continue
            if place > len(self.parts):
                raise EngineError(
                    f"token {place} of a response came after token {len(self.parts) - 1}",
                    hint="report this with the vLLM version; the response is not used",
                )
            self.parts.append(self.reader.feed(int(token)))
            self._limit(place)

    def _limit(self, place: int) -> None:
        """End the response where a limit of its parts is reached, as the Transformers engine does."""
        limits, reader = self.limits, self.reader
        if limits is None or reader is None or self.end < END:
            return
        if reader.is_full(answer=limits.answer_tokens, thinking=limits.thinking_tokens):
            self.end = self.extent.prompt + place + limits.last

    def part(self, position: int) -> str:
        """Return the part of a token that has been fed, or is in the prompt."""
        place = position - self.extent.prompt
        if place < 0:
            return "prompt"
        if self.reader is None and not self._known:
            return "answer"
        return self.parts[min(place, len(self.parts) - 1)]

    def state(self, position: int) -> tuple[str, bool, bool]:
        """Return a token's part, whether the gate acts on it, and whether the response has ended."""
        return self.part(position), position >= self.gate_at, position >= self.end

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the runs of the positions from start up to stop."""
        edge = min(stop, max(start, self.extent.prompt))
        if start < edge:
            yield Run(start, edge, self.plan, "prompt")
        begin = edge
        for (part, gated, over), run in groupby(range(edge, stop), self.state):
            length = sum(1 for _ in run)
            yield Run(begin, begin + length, self._both if gated else self.plan, part, gated, over)
            begin += length

    def reads(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the positions from low up to high that are read, as ranges."""
        if self.select == "response" and self.end >= high:
            return [(low, high)] if low < high else []
        found: list[tuple[int, int]] = []
        for position in range(low, high):
            if position >= self.end or not self._is(self.select, position):
                continue
            if found and found[-1][1] == position:
                found[-1] = (found[-1][0], position + 1)
            else:
                found.append((position, position + 1))
        return found

    def _is(self, part: str, position: int) -> bool:
        return part == "response" or part == self.part(position)

    def hear(self, position: int, row: Sequence[float]) -> None:
        """Let the alarm read the projections of a token that has passed for the first time."""
        alarm = self.alarm
        if (
            alarm is None
            or self.gate_at < END
            or not self.extent.prompt <= position < self.end
            or not self._is(self.heard, position)
        ):
            return
        if alarm.update(row[self.probe]):
            self.alarm = None
            if self.gate is None:
                self.end, self.stopped = position + 1, True
            else:
                self.gate_at = position + 1

    def acted(self, seen: int) -> tuple[int, int]:
        """Return on how many tokens before ``seen`` the plan acted, before the gate opened and after."""
        before = after = 0
        if self.first is not None:
            for run in self.runs(self.first, seen):
                plan = run.here
                if plan is None or run.over:
                    continue
                count = tokens_acted_on(plan, self.extent, run.begin, run.end)
                before, after = (before, after + count) if run.gated else (before + count, after)
        return before, after


def acts_by_part(plan: Plan | None) -> bool:
    """Return whether a plan acts on parts of a response."""
    return plan is not None and bool(reply_parts(plan))
