"""Where in one row the operations of a plan act, in token positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personascope.interventions._ops import turn_of
from personascope.interventions._plan import Plan

END = 1 << 60
"""Beyond every token position."""


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Where the parts of one row lie, in token positions.

    Attributes:
        prompt: Position after the prompt's last token.
        turns: First token of each message's content, if the row is a conversation.
    """

    prompt: int
    turns: tuple[int, ...] = ()

    def bounds(self, where: str) -> tuple[int, int]:
        """Return the first position on which an operation acts, and the one after the last."""
        if where == "prompt":
            return 0, self.prompt
        if where == "response":
            return self.prompt, END
        turn = turn_of(where)
        return (0 if turn is None else self.turns[turn]), END


def acts_on_prompt(plan: Plan) -> bool:
    """Return whether some operation acts on tokens of the prompt."""
    return any(op.where != "response" for op in plan.ops)


def acts_on_response(plan: Plan) -> bool:
    """Return whether some operation acts on tokens of the response."""
    return any(op.where != "prompt" for op in plan.ops)


def acting_spans(plan: Plan, extent: TokenSpans) -> tuple[tuple[int, int], ...]:
    """Return the positions on which some operation acts: first and end of spans that do not overlap."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(extent.bounds(op.where) for op in plan.ops):
        low = max(low, merged[-1][1] if merged else low)
        if low < high:
            merged.append((low, high))
    return tuple(merged)


def overlap(spans: Sequence[tuple[int, int]], start: int, stop: int) -> int:
    """Return how many of the positions from start to stop lie in the spans."""
    return sum(max(0, min(high, stop) - max(low, start)) for low, high in spans)


def tokens_acted_on(plan: Plan, extent: TokenSpans, start: int, stop: int) -> int:
    """Return how many of the positions from start to stop some operation acts on."""
    return overlap(acting_spans(plan, extent), start, stop)
