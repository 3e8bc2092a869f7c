"""Find the token positions of a row on which the operations of a plan act."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from personascope.errors import InterventionError
from personascope.interventions._ops import REPLY_PARTS, turn_of
from personascope.interventions._plan import Plan

END = 1 << 60
"""Position beyond every token."""


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Token positions of the parts of one row.

    Attributes:
        prompt: Position after the prompt's last token.
        turns: Position of the first token of each message's content, if the row is a conversation.
    """

    prompt: int
    turns: tuple[int, ...] = ()

    def bounds(self, tokens: str) -> tuple[int, int]:
        """Return the first position on which an operation acts, and the one after the last.

        Raises:
            InterventionError: If it acts on a part of the response, which positions alone do not show; see
                `plan_for_part`.
        """
        if tokens in REPLY_PARTS:
            raise InterventionError(
                f"an operation acts on {tokens!r}, and the parts of the response are not told apart here",
                hint="run it through the transformers engine on a conversation, or act on the response",
            )
        if tokens == "prompt":
            return 0, self.prompt
        if tokens == "response":
            return self.prompt, END
        turn = turn_of(tokens)
        return (0 if turn is None else self.turns[turn]), END


def acts_on_prompt(plan: Plan) -> bool:
    """Return whether some operation acts on tokens of the prompt."""
    return any(op.tokens not in ("response", *REPLY_PARTS) for op in plan.ops)


def acts_on_response(plan: Plan) -> bool:
    """Return whether some operation acts on tokens of the response."""
    return any(op.tokens != "prompt" for op in plan.ops)


def reply_parts(plan: Plan) -> tuple[str, ...]:
    """Return the parts of the response that operations of a plan are restricted to."""
    return tuple(part for part in REPLY_PARTS if any(op.tokens == part for op in plan.ops))


@functools.lru_cache(maxsize=256)
def plan_for_part(plan: Plan, part: str) -> Plan | None:
    """Return what a plan does to tokens of one part of a response; None for nothing.

    Operations restricted to that part act on the response, and those restricted to another one are left out.

    Args:
        plan: Plan; without operations restricted to a part it is returned as it is.
        part: Part of the response: "thinking", "answer", "tool_calls", "" for the marks between them, or
            "prompt".
    """
    if not reply_parts(plan):
        return plan
    ops = tuple(
        replace(op, tokens="response") if op.tokens in REPLY_PARTS else op
        for op in plan.ops
        if op.tokens not in REPLY_PARTS or op.tokens == part
    )
    return Plan(ops, plan.model, plan.name) if ops else None


def acting_spans(plan: Plan, extent: TokenSpans) -> tuple[tuple[int, int], ...]:
    """Return the positions on which some operation acts, as disjoint spans (first, end)."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(extent.bounds(op.tokens) for op in plan.ops):
        low = max(low, merged[-1][1] if merged else low)
        if low < high:
            merged.append((low, high))
    return tuple(merged)


def overlap(spans: Sequence[tuple[int, int]], start: int, stop: int) -> int:
    """Return the number of positions from start up to stop that lie in the spans."""
    return sum(max(0, min(high, stop) - max(low, start)) for low, high in spans)


def tokens_acted_on(plan: Plan, extent: TokenSpans, start: int, stop: int) -> int:
    """Return the number of positions from start up to stop on which some operation acts."""
    return overlap(acting_spans(plan, extent), start, stop)
