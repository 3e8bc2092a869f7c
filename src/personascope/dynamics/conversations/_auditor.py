"""Auditors that play the user: their protocol, a scripted auditor, and one that replays an earlier run."""

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
    """A request for the user's next message in a conversation.

    Attributes:
        scenario: Scenario of the conversation: persona, topic and messages.
        turn: Index of the turn that the message begins, from 0.
        conversation: Messages so far, ending with the assistant's; empty at turn 0.
        seed: Random seed of the run.
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
    """The auditor's decision to end the conversation."""


@dataclass(frozen=True, slots=True)
class AuditorFailure:
    """A failed attempt to get the user's next message, with a reason for people to read."""

    reason: str


Answer = UserMessage | EndConversation | AuditorFailure


class Auditor(Protocol):
    """Protocol of an auditor, which plays the user in many conversations at once."""

    @property
    def name(self) -> str:
        """Name that identifies the source of the messages; recorded in a run's manifest."""
        ...

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the next user message of each conversation, in order.

        Raises:
            DynamicsError: If no call can succeed (a refused key, a missing model). A single failed call is
                returned as an `AuditorFailure`.
        """
        ...


class ScriptedAuditor:
    """Send the scenario's scripted messages, whatever the replies are; needs no model and works offline.

    The messages are the same under every plan and for every model. Differences between two runs therefore
    come from the target model.
    """

    name = "scripted"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return each scenario's scripted message for the turn, or the end of the conversation."""
        answers: list[Answer] = []
        for one in asked:
            script = one.scenario.script(one.seed)
            answers.append(UserMessage(script[one.turn]) if one.turn < len(script) else EndConversation())
        return answers


class ReplayAuditor:
    """Repeat the user messages of an earlier run."""

    def __init__(self, source: DriftRun) -> None:
        """Collect the user messages of every dialogue in the source run."""
        self._said: Mapping[str, tuple[str, ...]] = {
            dialogue.id: tuple(turn.user for turn in dialogue.turns) for dialogue in source.dialogues
        }
        content = json.dumps(sorted(self._said.items()))
        self.name = f"replay:{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the source run's message at the same turn, or the end of the conversation."""
        answers: list[Answer] = []
        for one in asked:
            said = self._said.get(one.scenario.id, ())
            answers.append(UserMessage(said[one.turn]) if one.turn < len(said) else EndConversation())
        return answers
