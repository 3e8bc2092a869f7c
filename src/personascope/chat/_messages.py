"""Messages and conversations, which every other package uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Role of the speaker.
        content: Text of the message; for a reply, its answer.
        reasoning: Reasoning of the model before the answer; "" if there is none or it is not known.
    """

    role: Role
    content: str
    reasoning: str = ""


Conversation = tuple[Message, ...]
