"""Limits by key: requests and tokens in a minute, and requests that are under way."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from personascope.engines._http._errors import StatusError
from personascope.engines._http._policy import Rules

MINUTE = 60.0
"""Length of the window of the limits, in seconds."""


@dataclass(slots=True)
class _Use:
    """Use of one key: requests and tokens of the last minute, each with its time."""

    requests: deque[float] = field(default_factory=deque[float])
    tokens: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    under_way: int = 0


class Limiter:
    """Counter of what every key has used, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without any use."""
        self._clock = clock
        self._use: dict[str, _Use] = {}
        # Tokens are added by the thread that writes replies.
        self._lock = threading.Lock()

    def enter(self, rules: Rules) -> None:
        """Count a request that begins; `leave` must follow if this returns.

        Raises:
            StatusError: 429 if it is beyond a limit, with the seconds after which to ask again.
        """
        now = self._clock()
        with self._lock:
            use = self._use.setdefault(rules.name, _Use())
            while use.requests and use.requests[0] <= now - MINUTE:
                use.requests.popleft()
            while use.tokens and use.tokens[0][0] <= now - MINUTE:
                use.tokens.popleft()
            most = rules.requests_per_minute
            if most is not None and len(use.requests) >= most:
                raise _beyond(rules, f"{most} requests a minute", use.requests[-most] + MINUTE - now)
            spent, budget = sum(count for _, count in use.tokens), rules.tokens_per_minute
            if budget is not None and spent >= budget:
                # Wait until so many of the oldest tokens have left the window that the rest is below.
                for at, count in use.tokens:
                    spent -= count
                    if spent < budget:
                        raise _beyond(rules, f"{budget} tokens a minute", at + MINUTE - now)
            if rules.max_concurrent is not None and use.under_way >= rules.max_concurrent:
                raise _beyond(rules, f"{rules.max_concurrent} requests at a time", 1.0)
            use.requests.append(now)
            use.under_way += 1

    def leave(self, rules: Rules, tokens: int) -> None:
        """Count a request that has ended, with the tokens of its prompt and reply."""
        with self._lock:
            use = self._use[rules.name]
            use.under_way -= 1
            if tokens:
                use.tokens.append((self._clock(), tokens))


def _beyond(rules: Rules, what: str, wait: float) -> StatusError:
    seconds = max(1, math.ceil(wait))
    whose = f"the key {rules.name!r}" if rules.name else "this server"
    return StatusError(
        429, f"{whose} takes {what}\n  -> ask again in {seconds} seconds", Retry_After=str(seconds)
    )
