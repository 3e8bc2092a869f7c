"""Where a long piece of work stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        phase: What is being done, in a word or two: "generate", "judge", "build the map".
        done: Steps that are done, of this and of earlier runs.
        total: Steps in all; 0 where that is not known.
        tokens: Tokens that this run generated and counts, or read; ``done`` also counts earlier runs.
        note: What is worked on, such as a condition's name.
        unscored: Committed responses without a label that they need.
        waiting: Verdicts that are awaited; a response with two rubrics awaits two.
        cost: What judging has cost so far, in the currency of its prices; None where it costs nothing.
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
