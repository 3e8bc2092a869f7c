"""What every part of the room passes around: turns, dialogues, and a run of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from personascope.space import position

Ended = Literal["turns", "auditor", "context", "alarm", "refused"]
"""Why a dialogue is over: all turns made, the auditor ended it, the model's context is full, a monitor
stopped it, or the chat template refuses what was said so far (an empty reply, say)."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn: a message of the user and the reply to it.

    Attributes:
        number: Its place in the dialogue, from 0.
        user: The user's message.
        reply: The model's reply.
        token_count: Tokens of the reply.
        finish_reason: "stop", "length", or "alarm" where a monitor ended the reply.
        projections: Mean activation of the reply on the unit axis, at every layer, raw; NaN for an
            empty reply.
        tokens: Projection of each token of the reply on the unit axis at the run's layer, raw.
        probes: Name -> mean projection of the reply on each other probe of the run.
        plan: Digest of the plan that was applied, None for a plain reply.
        plan_tokens: Tokens on which the plan acts.
        capped_tokens: Tokens on which a cap fired.
        alarm: Token of the reply after which a monitor raised its first alarm, None without one; of a monitor
            of turns, the reply's last.
        prompt_tokens: Tokens of the prompt, which counts all messages before the reply.
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


@dataclass(frozen=True, slots=True, eq=False)
class Dialogue:
    """A simulated conversation.

    Attributes:
        id: Unique in its run: "domain/persona/topic".
        domain: "coding", "writing", "therapy", "philosophy", or what the user's own file names.
        persona: Id of the user persona.
        topic: Id of the topic.
        number: Number of the topic in its domain, from 0; pairs dialogues of two domains.
        turns: In order.
        ended: Why it is over; None while it is not.
        problem: Why it did not go on, where an auditor's call failed; "" otherwise.
        switch: Number of the turn in which the user asks the model to be somebody else; None for never.
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
    """A run folder of simulated or replayed conversations, read.

    Attributes:
        path: The folder.
        layer: Where ``Turn.tokens`` and positions are read: the map's middle layer by default.
        turns: Turns asked for.
        dialogues: In the run's order; unfinished ones among them.
        mean_role_projection: Projection of the mean role at every layer: position 0.
        default_projection: Projection of the default Assistant at every layer: position 1.
        manifest: What the run is: model, auditor, plan, seed, command.
    """

    path: Path
    layer: int
    turns: int
    dialogues: tuple[Dialogue, ...]
    mean_role_projection: Float[np.ndarray, "L"]
    default_projection: Float[np.ndarray, "L"]
    manifest: Mapping[str, Any]

    def to_units(self, projection: Any, layer: int | None = None) -> Any:
        """Rescale raw projections at a layer (the run's by default): 0 is the mean role, 1 the default."""
        at = self.layer if layer is None else layer
        return position(projection, self.mean_role_projection[at], self.default_projection[at])

    def positions(self, dialogue: Dialogue, layer: int | None = None) -> Float[np.ndarray, "turns"]:
        """Return the position of every reply in units of the map, NaN for empty replies."""
        at = self.layer if layer is None else layer
        return self.to_units(np.array([e.projections[at] for e in dialogue.turns], dtype=float), at)


def topic_key(dialogue: Dialogue) -> str:
    """Return what names a dialogue's topic in the whole run: two domains may number theirs alike."""
    return f"{dialogue.domain}/{dialogue.topic}" if dialogue.topic else dialogue.id
