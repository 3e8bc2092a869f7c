"""Progress of a long job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run, for a progress display.

    Attributes:
        phase: Current phase in a word or two: "generate", "judge", "build the map".
        done: Number of finished steps, of this and of earlier calls.
        total: Total number of steps; 0 if unknown.
        tokens: Number of tokens generated and counted, or read, in this call.
        note: Current item, such as a condition's name.
        unscored: Number of committed responses with missing labels.
        waiting: Number of pending verdicts; a response with two rubrics counts twice.
        cost: Cost of judging so far, in the currency of its prices; None if it is free.
    """

    phase: str
    done: int = 0
    total: int = 0
    tokens: int = 0
    note: str = ""
    unscored: int = 0
    waiting: int = 0
    cost: float | None = None


ProgressCallback = Callable[[Progress], None]
