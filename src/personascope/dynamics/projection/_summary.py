"""Counting projected transcripts as they pass: what came of them, and where their replies lie."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from personascope.dynamics.projection._records import Projected, ProjectedTurn
from personascope.stats import mean_interval

LOWEST = 5
"""Replies that a summary names, the lowest on the axis."""

LISTED = 200
"""Problems that a summary lists; all of them are counted, and stand in the table."""

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Low:
    """A reply low on the axis.

    Attributes:
        id: Its conversation.
        turn: Its number there.
        position: In units of the map.
        percentile: Among single responses in a role.
        text: The beginning of it.
    """

    id: str
    turn: int
    position: float
    percentile: float
    text: str


class Counted:
    """Counts entries, and holds no more of them than the positions of their replies."""

    def __init__(self, source: str, layer: int) -> None:
        """Begin with nothing; ``source`` and ``layer`` are named in the summary."""
        self.source = source
        self.layer = layer
        self.entries = self.turns = self.tokens = self.repairs = 0
        self.status: Counter[str] = Counter()
        self.problems: list[tuple[str, str, str]] = []
        self._positions: list[float] = []
        self._of: list[int] = []
        self._lowest: list[tuple[float, int, int, Low]] = []

    def add(self, entry: Projected) -> None:
        """Count one entry in."""
        self.entries += 1
        self.status[entry.status] += 1
        if entry.status != "projected":
            if len(self.problems) < LISTED:
                self.problems.append((entry.where, entry.status, entry.reason))
            return
        self.repairs += bool(entry.repairs)
        self.turns += len(entry.turns)
        for turn in entry.turns:
            self.tokens += turn.token_count
            if turn.role == "assistant" and not math.isnan(turn.axis.position):
                self._reply(entry, turn)

    def _reply(self, entry: Projected, turn: ProjectedTurn) -> None:
        position = turn.axis.position
        self._positions.append(position)
        self._of.append(entry.number)
        low = Low(entry.id, turn.turn, position, turn.axis.percentile, turn.text[:_SHOWN])
        # The numbers keep the order when two positions are the same.
        item = (-position, -entry.number, -turn.turn, low)
        (heapq.heappush if len(self._lowest) < LOWEST else heapq.heappushpop)(self._lowest, item)

    @property
    def lowest(self) -> list[Low]:
        """The lowest replies, the lowest of all first."""
        return [low for *_, low in sorted(self._lowest, key=lambda item: item[:3], reverse=True)]

    @property
    def wrong(self) -> int:
        """Entries that could not be read or projected."""
        return self.entries - self.status["projected"]

    def summary(self) -> dict[str, Any]:
        """Return all of it as JSON values; the interval of the mean resamples conversations."""
        mean = asdict(mean_interval(self._positions, self._of))
        return {
            "source": self.source,
            "layer": self.layer,
            "entries": self.entries,
            "projected": self.status["projected"],
            "unreadable": self.status["unreadable"],
            "refused": self.status["refused"],
            "too_long": self.status["too long"],
            "repairs": self.repairs,
            "turns": self.turns,
            "tokens": self.tokens,
            "reply_position": {key: None if math.isnan(value) else value for key, value in mean.items()},
            "lowest_replies": [asdict(low) for low in self.lowest],
            "problems": [
                {"where": where, "status": status, "reason": reason}
                for where, status, reason in self.problems
            ],
            "problems_not_listed": self.wrong - len(self.problems),
        }
