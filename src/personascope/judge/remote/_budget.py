"""Track what a remote judge has spent, and hold it to its limits."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from personascope.chat import Message
from personascope.errors import JudgeError
from personascope.judge._contract import JudgeStats

CHARS_PER_TOKEN = 4.0
MESSAGE_TOKENS = 4


def guess_tokens(messages: Iterable[Message]) -> int:
    """Estimate the tokens of a prompt from its characters, about four to a token in English."""
    return sum(MESSAGE_TOKENS + math.ceil(len(m.content) / CHARS_PER_TOKEN) for m in messages)


@dataclass(slots=True)
class Ledger:
    """Running totals of calls, tokens and cost, with their limits.

    A call reserves the most that it may take before it is sent. A call that fits into the budget only if
    others take less than they reserved waits for them. One that does not fit at all ends the judge.

    Attributes:
        name: Name of the judge, for the error.
        max_cost: Limit on the cost, or None.
        max_tokens: Limit on prompt and completion tokens together, or None.
        price_in: Price of a million prompt tokens, or None.
        price_out: Price of a million completion tokens, or None.
    """

    name: str
    max_cost: float | None
    max_tokens: int | None
    price_in: float | None
    price_out: float | None
    calls: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    _held_prompt: int = 0
    _held_completion: int = 0

    def cost_of(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return the cost of these tokens, or None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6

    def snapshot(self) -> JudgeStats:
        """Return the totals so far."""
        return JudgeStats(
            calls=self.calls,
            retries=self.retries,
            cached=self.cached,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=self.cost_of(self.prompt_tokens, self.completion_tokens),
            errors=dict(self.errors),
        )

    async def reserve(self, prompt_tokens: int, completion_tokens: int, settled: asyncio.Condition) -> None:
        """Reserve tokens for a call, waiting for other calls to settle if the budget is close.

        Raises:
            JudgeError: If the budget does not allow the call even with nothing else under way.
        """
        async with settled:
            while not self._fits(
                prompt_tokens + self._held_prompt, completion_tokens + self._held_completion
            ):
                if not self._held_prompt:
                    raise self._spent()
                await settled.wait()
            self._held_prompt += prompt_tokens
            self._held_completion += completion_tokens

    async def settle(
        self, reserved: tuple[int, int], used: tuple[int, int], settled: asyncio.Condition
    ) -> None:
        """Replace the tokens that a call reserved by those it used, both as (prompt, completion)."""
        self._held_prompt -= reserved[0]
        self._held_completion -= reserved[1]
        self.prompt_tokens += used[0]
        self.completion_tokens += used[1]
        async with settled:
            settled.notify_all()

    def _fits(self, prompt_tokens: int, completion_tokens: int) -> bool:
        prompt, completion = self.prompt_tokens + prompt_tokens, self.completion_tokens + completion_tokens
        if self.max_tokens is not None and prompt + completion > self.max_tokens:
            return False
        cost = self.cost_of(prompt, completion)
        return self.max_cost is None or cost is None or cost <= self.max_cost

    def _spent(self) -> JudgeError:
        tokens = self.prompt_tokens + self.completion_tokens
        cost = self.cost_of(self.prompt_tokens, self.completion_tokens)
        parts = [f"{tokens} of {self.max_tokens} tokens"] if self.max_tokens is not None else []
        if self.max_cost is not None and cost is not None:
            parts.append(f"{cost:.4f} of {self.max_cost} in cost")
        return JudgeError(
            f"the budget of the judge {self.name} is spent: {' and '.join(parts)} after {self.calls} calls,"
            " and the next call would pass the limit",
            hint="raise the budget and run the same command again; cached scores are not paid for twice",
        )
