"""Who plays the user: the contract, a scripted auditor that needs no model, and one that repeats a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from personascope.chat import Conversation
from personascope.dynamics._conversation import DriftRun
from personascope.dynamics.conversations._scenarios import Scenario


@dataclass(frozen=True, slots=True)
class UserTurnRequest:
    """A conversation that waits for the user's next message.

    Attributes:
        scenario: Who talks about what.
        turn: Number of the turn that the message begins, from 0.
        conversation: What was said so far, the assistant last; empty at turn 0.
        seed: Of the run.
    """

    scenario: Scenario
    turn: int
    conversation: Conversation
    seed: int


@dataclass(frozen=True, slots=True)
class UserMessage:
    """The user's next message."""

    text: str


@dataclass(frozen=True, slots=True)
class EndConversation:
    """The user has nothing more to say."""


@dataclass(frozen=True, slots=True)
class AuditorFailure:
    """No message could be had this time; the reason is for the reader."""

    reason: str


Answer = UserMessage | EndConversation | AuditorFailure


class Auditor(Protocol):
    """Plays the user in many conversations at once."""

    @property
    def name(self) -> str:
        """What tells its messages apart from another one's; stands in the manifest of a run."""
        ...

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the next message of each conversation, in order.

        Raises:
            DynamicsError: If no call can succeed (a refused key, a model that is not there). A call that
                fails by itself is a `AuditorFailure`.
        """
        ...


class ScriptedAuditor:
    """Says what the scenario has written out, whatever the replies are; works offline.

    The same messages under every plan and for every model: what differs between two runs is the target's.
    """

    name = "scripted"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return each scenario's line for the turn."""
        answers: list[Answer] = []
        for one in asked:
            script = one.scenario.script(one.seed)
            answers.append(UserMessage(script[one.turn]) if one.turn < len(script) else EndConversation())
        return answers


class ReplayAuditor:
    """Says what the user said in an earlier run."""

    def __init__(self, source: DriftRun) -> None:
        """Take the messages of every dialogue of the run."""
        self._said: Mapping[str, tuple[str, ...]] = {
            dialogue.id: tuple(turn.user for turn in dialogue.turns) for dialogue in source.dialogues
        }
        content = json.dumps(sorted(self._said.items()))
        self.name = f"replay:{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the message that was said at the same turn."""
        answers: list[Answer] = []
        for one in asked:
            said = self._said.get(one.scenario.id, ())
            answers.append(UserMessage(said[one.turn]) if one.turn < len(said) else EndConversation())
        return answers
