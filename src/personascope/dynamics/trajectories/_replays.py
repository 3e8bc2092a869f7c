"""Comparison of two runs with the same user messages under different plans, matched by dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from personascope.dynamics._conversation import Dialogue, DriftRun, Turn, topic_key
from personascope.dynamics.trajectories._by_domain import MIN_DIALOGUES
from personascope.errors import DynamicsError
from personascope.stats import Difference, Interval, json_values, mean_interval, paired_difference

Array = np.ndarray
By = Literal["domain", "dialogue"]


@dataclass(frozen=True, slots=True)
class ReplayTurn:
    """One turn, compared between two runs.

    Attributes:
        turn: Index of the turn, from 0.
        plain: Mean position of the replies in the first run.
        planned: Mean position of the replies to the same messages in the second run.
        difference: Paired difference, second minus first; the interval resamples topics.
        fired: Share of the tokens under the second run's plan on which a cap fired; None if no plan acted.
    """

    turn: int
    plain: Interval
    planned: Interval
    difference: Difference
    fired: float | None


@dataclass(frozen=True, slots=True)
class ReplayPair:
    """Comparison of one domain's conversations, or of one conversation.

    Attributes:
        name: Name of the domain, or id of the dialogue.
        turns: Turns that enough conversations reach in both runs.
        dropped: (turn, number of conversations that reach it in both runs) for each other turn.
        n_dialogues: Number of conversations in both runs.
    """

    name: str
    turns: tuple[ReplayTurn, ...]
    dropped: tuple[tuple[int, int], ...]
    n_dialogues: int


@dataclass(frozen=True, slots=True)
class Replays:
    """Comparison of two runs.

    Attributes:
        pairs: One comparison per domain or dialogue.
        layer: Layer at which positions are read.
        missing: Ids of dialogues that only one run has.
    """

    pairs: tuple[ReplayPair, ...]
    layer: int
    missing: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the comparison as JSON values; NaN becomes null."""
        return json_values(asdict(self))


def compare_replays(
    first: DriftRun,
    second: DriftRun,
    *,
    by: By = "domain",
    layer: int | None = None,
    min_dialogues: int | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> Replays:
    """Compare the replies of two runs to the same user messages, turn by turn.

    A turn of a conversation counts if both runs have a non-empty reply there. Both runs are read in the units
    of the first.

    Args:
        first: Reference run, usually without a plan.
        second: Replay of the first run under a plan.
        by: Whether to average over each domain, or to compare each dialogue by itself.
        layer: Layer at which positions are read; the first run's layer by default.
        min_dialogues: Minimum number of conversations that must reach a turn; by default 10 by domain, 1 by
            dialogue.
        n_boot: Number of bootstrap draws.
        seed: Random seed of the bootstrap and the sign flips.

    Raises:
        DynamicsError: If the runs share no dialogue, or a user message differs between them.
    """
    at = first.layer if layer is None else layer
    least = min_dialogues if min_dialogues is not None else MIN_DIALOGUES if by == "domain" else 1
    others = {dialogue.id: dialogue for dialogue in second.dialogues}
    both = [(one, others[one.id]) for one in first.dialogues if one.id in others]
    if not both:
        raise DynamicsError(
            f"no dialogue of {first.path} was replayed in {second.path}",
            hint="give a run and a replay of that very run",
        )
    known = {one.id for one, _ in both}
    missing = [one.id for run in (first, second) for one in run.dialogues if one.id not in known]
    blocks: dict[str, list[tuple[Dialogue, Dialogue]]] = {}
    for one, other in both:
        _same_messages(one, other)
        blocks.setdefault(one.domain if by == "domain" else one.id, []).append((one, other))
    pairs = tuple(_pair(name, block, first, at, least, n_boot, seed) for name, block in blocks.items())
    return Replays(pairs, at, tuple(missing))


def _same_messages(one: Dialogue, other: Dialogue) -> None:
    for a, b in zip(one.turns, other.turns, strict=False):
        if a.user != b.user:
            raise DynamicsError(
                f"the message {a.number + 1} of {one.id} is {a.user[:50]!r} in one run and {b.user[:50]!r} "
                "in the other",
                hint="compare a run with its replay, which repeats the user's turns",
            )


def _pair(
    name: str,
    block: list[tuple[Dialogue, Dialogue]],
    run: DriftRun,
    layer: int,
    least: int,
    n_boot: int,
    seed: int,
) -> ReplayPair:
    def path(dialogue: Dialogue) -> Float[Array, "turns"]:
        raw = np.array([turn.projections[layer] for turn in dialogue.turns], float)
        return run.to_units(raw, layer)

    paths = [(path(one), path(other)) for one, other in block]
    turns: list[ReplayTurn] = []
    dropped: list[tuple[int, int]] = []
    for turn in range(max(len(p) for pair in paths for p in pair)):
        there = [
            i for i, pair in enumerate(paths) if all(turn < len(p) and np.isfinite(p[turn]) for p in pair)
        ]
        if len(there) < max(least, 1):
            dropped.append((turn, len(there)))
            continue
        before, after = ([float(paths[i][side][turn]) for i in there] for side in (0, 1))
        topics = [topic_key(block[i][0]) for i in there]
        settings: Mapping[str, int] = {"n_boot": n_boot, "seed": seed}
        turns.append(
            ReplayTurn(
                turn=turn,
                plain=mean_interval(before, topics, **settings),
                planned=mean_interval(after, topics, **settings),
                difference=paired_difference(after, before, topics, **settings),
                fired=_fired([block[i][1].turns[turn] for i in there]),
            )
        )
    return ReplayPair(name, tuple(turns), tuple(dropped), len(block))


def _fired(turns: list[Turn]) -> float | None:
    under = sum(turn.plan_tokens for turn in turns)
    return sum(turn.capped_tokens for turn in turns) / under if under else None
