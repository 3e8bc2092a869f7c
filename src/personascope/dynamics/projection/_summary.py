"""Summary of projected transcripts, counted in one pass: outcomes and reply positions."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from personascope.dynamics.projection._records import Projected, ProjectedTurn
from personascope.stats import mean_interval

LOWEST = 5
"""Number of replies that a summary lists, lowest on the axis first."""

LISTED = 200
"""Maximum number of problems that a summary lists; all are counted, and all are in the table."""

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Low:
    """A reply low on the axis.

    Attributes:
        id: Id of the conversation.
        turn: Index of the reply in the conversation.
        position: Position in units of the map.
        percentile: Percentile among single responses in a role.
        text: Beginning of the reply.
    """

    id: str
    turn: int
    position: float
    percentile: float
    text: str


class Counted:
    """Count entries in one pass, keeping only the positions of their replies and the lowest replies."""

    def __init__(self, source: str, layer: int) -> None:
        """Start with zero counts; ``source`` and ``layer`` are recorded in the summary."""
        self.source = source
        self.layer = layer
        self.entries = self.turns = self.tokens = self.repairs = 0
        self.status: Counter[str] = Counter()
        self.problems: list[tuple[str, str, str]] = []
        self._positions: list[float] = []
        self._of: list[int] = []
        self._lowest: list[tuple[float, int, int, Low]] = []

    def add(self, entry: Projected) -> None:
        """Add one entry to the counts."""
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
        # The indices break ties between equal positions.
        item = (-position, -entry.number, -turn.turn, low)
        (heapq.heappush if len(self._lowest) < LOWEST else heapq.heappushpop)(self._lowest, item)

    @property
    def lowest(self) -> list[Low]:
        """The replies lowest on the axis, the lowest first."""
        return [low for *_, low in sorted(self._lowest, key=lambda item: item[:3], reverse=True)]

    @property
    def wrong(self) -> int:
        """Number of entries that could not be read or projected."""
        return self.entries - self.status["projected"]

    def summary(self) -> dict[str, Any]:
        """Return the summary as JSON values; the mean's interval resamples conversations."""
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
