"""Runs of conversations that are made up, with effects that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from personascope.dynamics import Dialogue, DriftRun, Turn

LAYERS, LAYER = 3, 1
ZERO, ONE = np.array([0.0, 2.0, 5.0]), np.array([1.0, 6.0, 4.0])
"""Position p at the run's layer is the raw projection 2 + 4 p."""


def a_turn(
    turn: int, position: float, user: str = "", *, plan_tokens: int = 0, capped_tokens: int = 0
) -> Turn:
    """A turn whose reply lies at ``position`` at every layer; NaN is an empty reply."""
    empty = np.isnan(position)
    return Turn(
        number=turn,
        user=user or f"message {turn}",
        reply="" if empty else "A reply.",
        token_count=0 if empty else 10,
        finish_reason="stop",
        projections=ZERO + position * (ONE - ZERO),
        tokens=np.full(0 if empty else 10, position),
        plan_tokens=plan_tokens,
        capped_tokens=capped_tokens,
    )


def dialogue(
    domain: str,
    persona: int,
    number: int,
    path: Sequence[float],
    texts: Sequence[str] | None = None,
    *,
    ended: str | None = "turns",
    plan_tokens: int = 0,
    capped: Sequence[int] | None = None,
) -> Dialogue:
    turns = tuple(
        a_turn(
            turn,
            position,
            texts[turn] if texts else "",
            plan_tokens=plan_tokens,
            capped_tokens=capped[turn] if capped else 0,
        )
        for turn, position in enumerate(path)
    )
    topic = f"topic-{number}"
    return Dialogue(f"{domain}/p{persona}/{topic}", domain, f"p{persona}", topic, number, turns, ended)


def run(dialogues: Sequence[Dialogue], turns: int = 8) -> DriftRun:
    return DriftRun(Path("made-up"), LAYER, turns, tuple(dialogues), ZERO, ONE, {})


def grid(
    path: Callable[[str, int, int], Sequence[float]],
    domains: Sequence[str] = ("coding", "therapy"),
    *,
    personas: int = 3,
    topics: int = 12,
    texts: Callable[[str, int, int], Sequence[str]] | None = None,
) -> DriftRun:
    """A dialogue for every domain, persona and topic, its positions by ``path(domain, persona, topic)``."""
    return run(
        [
            dialogue(
                domain,
                persona,
                topic,
                path(domain, persona, topic),
                texts(domain, persona, topic) if texts else None,
            )
            for domain in domains
            for persona in range(personas)
            for topic in range(topics)
        ]
    )


class FakeEncoder:
    """Gives every text the unit vector that it was told, or one of its own."""

    name = "fake/encoder"

    def __init__(self, known: dict[str, np.ndarray] | None = None, width: int = 16) -> None:
        self.known = known or {}
        self.width = width
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.stack([self.known[t] if t in self.known else self._own(t) for t in texts])

    def _own(self, text: str) -> np.ndarray:
        vector = np.random.default_rng(list(text.encode())).normal(size=self.width)
        return vector / np.linalg.norm(vector)
