"""The records that all of `dynamics` shares: turns, dialogues, and runs of dialogues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from personascope.space import position

Ended = Literal["turns", "auditor", "context", "alarm", "refused"]
"""Why a dialogue ended: it has all its turns, the auditor ended it, the model's context is full, a monitor
stopped it, or the chat template refuses the conversation so far (for example after an empty reply)."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn: a user message and the model's reply.

    Attributes:
        number: Index of the turn in the dialogue, from 0.
        user: The user's message.
        reply: The model's reply.
        token_count: Number of tokens in the reply.
        finish_reason: "stop", "length", or "alarm" if a monitor ended the reply.
        projections: Raw projection of the reply's mean activation on the unit axis, at every layer. NaN for
            an empty reply.
        tokens: Raw projection of each reply token on the unit axis at the run's layer.
        probes: Name -> mean projection of the reply, for each other probe of the run.
        plan: Digest of the plan that was applied; None for an unsteered reply.
        plan_tokens: Number of tokens on which the plan acted.
        capped_tokens: Number of tokens on which a cap fired.
        alarm: Index of the reply token after which a monitor raised its first alarm; None without an alarm.
            For a monitor of turns it is the reply's last token.
        prompt_tokens: Number of prompt tokens, all earlier messages included.
        reasoning: The model's reasoning before the reply; "" without any. Later prompts leave it out, as chat
            clients do.
    """

    number: int
    user: str
    reply: str
    token_count: int
    finish_reason: str
    projections: Float[np.ndarray, "L"]
    tokens: Float[np.ndarray, "tokens"]
    probes: Mapping[str, float] = field(default_factory=dict)
    plan: str | None = None
    plan_tokens: int = 0
    capped_tokens: int = 0
    alarm: int | None = None
    prompt_tokens: int = 0
    reasoning: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Dialogue:
    """A simulated conversation.

    Attributes:
        id: Unique in its run: "domain/persona/topic".
        domain: "coding", "writing", "therapy", "philosophy", or a domain from the user's own file.
        persona: Id of the user persona.
        topic: Id of the topic.
        number: Index of the topic in its domain, from 0. Dialogues of two domains are paired by it.
        turns: Turns, in order.
        ended: Why the dialogue ended; None while it is unfinished.
        problem: Why an unfinished dialogue could not continue, if an auditor call failed; "" otherwise.
        switch: Index of the turn in which the user asks the model to take another role; None if it never
            happens.
    """

    id: str
    domain: str
    persona: str
    topic: str
    number: int
    turns: tuple[Turn, ...]
    ended: Ended | None = None
    problem: str = ""
    switch: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DriftRun:
    """A run of simulated or replayed conversations, as read from its folder.

    Attributes:
        path: Path of the run folder.
        layer: Layer at which ``Turn.tokens`` and positions are read.
        turns: Number of turns requested per dialogue.
        dialogues: All dialogues in the run's order, including unfinished ones.
        mean_role_projection: Projection of the mean role at every layer. It is position 0.
        default_projection: Projection of the default Assistant at every layer. It is position 1.
        manifest: The run's manifest: model, auditor, plan, seed, command.
    """

    path: Path
    layer: int
    turns: int
    dialogues: tuple[Dialogue, ...]
    mean_role_projection: Float[np.ndarray, "L"]
    default_projection: Float[np.ndarray, "L"]
    manifest: Mapping[str, Any]

    def to_units(self, projection: Any, layer: int | None = None) -> Any:
        """Convert raw projections at a layer (the run's by default) to positions: mean role 0, default 1."""
        at = self.layer if layer is None else layer
        return position(projection, self.mean_role_projection[at], self.default_projection[at])

    def positions(self, dialogue: Dialogue, layer: int | None = None) -> Float[np.ndarray, "turns"]:
        """Return the position of every reply in units of the map; NaN for empty replies."""
        at = self.layer if layer is None else layer
        return self.to_units(np.array([e.projections[at] for e in dialogue.turns], dtype=float), at)


def topic_key(dialogue: Dialogue) -> str:
    """Return a key of the dialogue's topic that is unique in the run, even if two domains share topic ids."""
    return f"{dialogue.domain}/{dialogue.topic}" if dialogue.topic else dialogue.id
