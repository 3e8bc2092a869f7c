"""The user messages of a run as rows, with the positions of the replies to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Int

from personascope.dynamics._conversation import DriftRun, topic_key
from personascope.errors import DynamicsError

Group = Literal["topic", "dialogue"]
"""Unit that is kept together when rows are split or resampled."""


class Encoder(Protocol):
    """Protocol of a text embedding model, such as ``personascope.judge.Embedder``."""

    name: str

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "texts width"]:
        """Return the embedding of each text."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """One row per turn with a non-empty reply, in the run's order.

    Attributes:
        texts: User messages.
        position: Position of each reply, in units of the map.
        change: Position minus that of the previous reply; NaN for a first turn, and after an empty reply.
        dialogues: Dialogue id of each row.
        topics: Domain and topic of each row; the dialogue's id if it has no topic.
        domains: Domain of each row.
        turns: Index of the turn in its dialogue, from 0.
        layer: Layer at which the positions were read.
        empty: Number of turns left out because their reply is empty.
    """

    texts: tuple[str, ...]
    position: Float[np.ndarray, "rows"]
    change: Float[np.ndarray, "rows"]
    dialogues: tuple[str, ...]
    topics: tuple[str, ...]
    domains: tuple[str, ...]
    turns: Int[np.ndarray, "rows"]
    layer: int
    empty: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.texts)

    def groups(self, group: Group) -> tuple[str, ...]:
        """Return the key of each row's topic or dialogue."""
        return self.topics if group == "topic" else self.dialogues

    def take(self, rows: Int[np.ndarray, "some"]) -> Messages:
        """Return the given rows, in the given order."""
        picked = [int(row) for row in rows]
        return Messages(
            texts=tuple(self.texts[row] for row in picked),
            position=self.position[picked],
            change=self.change[picked],
            dialogues=tuple(self.dialogues[row] for row in picked),
            topics=tuple(self.topics[row] for row in picked),
            domains=tuple(self.domains[row] for row in picked),
            turns=self.turns[picked],
            layer=self.layer,
            empty=self.empty,
        )

    def with_change(self) -> Messages:
        """Return the rows whose turn follows a non-empty reply."""
        return self.take(np.flatnonzero(np.isfinite(self.change)))


def messages_of(run: DriftRun, layer: int | None = None) -> Messages:
    """Return the user messages of a run with the positions of the replies to them (section 4).

    Unfinished dialogues contribute the turns that they have.

    Args:
        run: Simulated or replayed conversations.
        layer: Layer at which positions are read; the run's layer by default.

    Raises:
        DynamicsError: If the run has no reply at all.
    """
    texts: list[str] = []
    position: list[float] = []
    change: list[float] = []
    dialogues: list[str] = []
    topics: list[str] = []
    domains: list[str] = []
    turns: list[int] = []
    empty = 0
    for dialogue in run.dialogues:
        before = np.nan
        for turn, here in zip(dialogue.turns, run.positions(dialogue, layer), strict=True):
            if np.isfinite(here):
                texts.append(turn.user)
                position.append(float(here))
                change.append(float(here - before))
                dialogues.append(dialogue.id)
                topics.append(topic_key(dialogue))
                domains.append(dialogue.domain)
                turns.append(turn.number)
            else:
                empty += 1
            before = here
    if not texts:
        raise DynamicsError(
            f"the run {run.path} has {len(run.dialogues)} dialogues and no reply",
            hint="simulate it to its end first",
        )
    return Messages(
        texts=tuple(texts),
        position=np.array(position),
        change=np.array(change),
        dialogues=tuple(dialogues),
        topics=tuple(topics),
        domains=tuple(domains),
        turns=np.array(turns),
        layer=run.layer if layer is None else layer,
        empty=empty,
    )


def embed_messages(messages: Messages, encoder: Encoder) -> Float[np.ndarray, "rows width"]:
    """Return the embedding of each row's message; a repeated text is embedded once.

    Raises:
        JudgeError: If the embedding library or model is missing.
        DynamicsError: If an embedding is not finite.
    """
    texts = list(dict.fromkeys(messages.texts))
    vectors = np.asarray(encoder.encode(texts), dtype=np.float64)
    broken = ~np.isfinite(vectors).all(axis=1)
    if broken.any():
        raise DynamicsError(
            f"{encoder.name} embeds {int(broken.sum())} of {len(texts)} messages as numbers that are not "
            f"finite, first {texts[int(broken.argmax())][:60]!r}",
            hint="use another embedding model",
        )
    place = {text: row for row, text in enumerate(texts)}
    return vectors[[place[text] for text in messages.texts]]
