"""Mean trajectories by domain (section 4).

Dialogues on one topic are correlated, so the topic is the sampling unit and intervals resample topics.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.dynamics._conversation import Dialogue, DriftRun, topic_key
from personascope.errors import DynamicsError
from personascope.stats import Interval, json_values, mean_interval

MIN_DIALOGUES = 10
"""Minimum number of dialogues that must reach a turn; other turns are dropped, as in the paper."""


@dataclass(frozen=True, slots=True)
class TurnMean:
    """Mean position of the replies at one turn.

    Attributes:
        turn: Index of the turn, from 0.
        position: Mean over the dialogues that reach the turn, in units of the map; the interval resamples
            topics.
    """

    turn: int
    position: Interval


@dataclass(frozen=True, slots=True)
class DomainTrajectory:
    """The mean trajectory of one domain.

    Attributes:
        domain: Name of the domain.
        turns: Turns that enough dialogues reach, in order.
        dropped: (turn, number of dialogues that reach it) for each other turn.
        change: Mean change from first to last reply, over the dialogues with two or more non-empty replies.
        n_dialogues: Number of dialogues in the domain.
        unfinished: Number of unfinished dialogues; their turns count.
        empty: Number of empty replies, which are left out.
    """

    domain: str
    turns: tuple[TurnMean, ...]
    dropped: tuple[tuple[int, int], ...]
    change: Interval
    n_dialogues: int
    unfinished: int
    empty: int


@dataclass(frozen=True, slots=True)
class Trajectories:
    """The mean trajectories of all domains of a run.

    Attributes:
        domains: Trajectories of the domains, in the run's order.
        layer: Layer at which positions are read.
        min_dialogues: Minimum number of dialogues that must reach a turn.
    """

    domains: tuple[DomainTrajectory, ...]
    layer: int
    min_dialogues: int

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each limitation: dropped turns, empty replies, unfinished conversations."""
        said: list[str] = []
        for one in self.domains:
            if one.dropped:
                turns = ", ".join(f"{turn + 1} ({count})" for turn, count in one.dropped)
                said.append(
                    f"{one.domain}: turns dropped because fewer than {self.min_dialogues} "
                    f"conversations reach them: {turns}."
                )
            if one.empty:
                said.append(f"{one.domain}: empty replies left out: {one.empty}.")
            if one.unfinished:
                said.append(f"{one.domain}: unfinished conversations among them: {one.unfinished}.")
        return tuple(said)

    def record(self) -> dict[str, Any]:
        """Return the trajectories and notes as JSON values; NaN becomes null."""
        return json_values({**asdict(self), "notes": self.notes()})


def trajectories(
    run: DriftRun,
    *,
    layer: int | None = None,
    min_dialogues: int = MIN_DIALOGUES,
    n_boot: int = 2000,
    seed: int = 0,
) -> Trajectories:
    """Return the mean position of each domain at each turn, and the change from first to last reply.

    The mean of a turn covers the dialogues that reach it with a non-empty reply, so late turns may average
    other dialogues than early ones. The change is within each dialogue.

    Args:
        run: Simulated or replayed conversations.
        layer: Layer at which positions are read; the run's layer by default.
        min_dialogues: Minimum number of dialogues that must reach a turn; other turns are dropped and
            reported.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap.

    Raises:
        DynamicsError: If the run has no dialogue, or ``min_dialogues`` is below 1.
    """
    if min_dialogues < 1:
        raise DynamicsError(f"a turn cannot need {min_dialogues} dialogues", hint="give 1 or more")
    if not run.dialogues:
        raise DynamicsError(f"the run {run.path} has no dialogue", hint="simulate it first")
    rows: list[DomainTrajectory] = []
    for domain, dialogues in by_domain(run).items():
        paths = [run.positions(dialogue, layer) for dialogue in dialogues]
        topics = [topic_key(dialogue) for dialogue in dialogues]
        turns: list[TurnMean] = []
        dropped: list[tuple[int, int]] = []
        for turn in range(max(len(path) for path in paths)):
            there = [i for i, path in enumerate(paths) if turn < len(path) and np.isfinite(path[turn])]
            if len(there) < min_dialogues:
                dropped.append((turn, len(there)))
                continue
            found = mean_interval(
                [float(paths[i][turn]) for i in there],
                [topics[i] for i in there],
                n_boot=n_boot,
                seed=seed,
            )
            turns.append(TurnMean(turn, found))
        changes = [first_to_last(path) for path in paths]
        there = [i for i, value in enumerate(changes) if math.isfinite(value)]
        rows.append(
            DomainTrajectory(
                domain=domain,
                turns=tuple(turns),
                dropped=tuple(dropped),
                change=mean_interval(
                    [changes[i] for i in there], [topics[i] for i in there], n_boot=n_boot, seed=seed
                ),
                n_dialogues=len(dialogues),
                unfinished=sum(dialogue.ended is None for dialogue in dialogues),
                empty=int(sum(np.isnan(path).sum() for path in paths)),
            )
        )
    return Trajectories(tuple(rows), run.layer if layer is None else layer, min_dialogues)


def first_to_last(path: Float[np.ndarray, "turns"]) -> float:
    """Return the change from the first to the last non-empty reply; NaN if there are fewer than two."""
    there = path[np.isfinite(path)]
    return float(there[-1] - there[0]) if len(there) > 1 else math.nan


def by_domain(run: DriftRun) -> dict[str, list[Dialogue]]:
    """Return the dialogues of each domain, in the run's order."""
    found: dict[str, list[Dialogue]] = {}
    for dialogue in run.dialogues:
        found.setdefault(dialogue.domain, []).append(dialogue)
    return found
