"""Messages and conversations: the values that every room above passes around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        content: What is said; of a reply its answer.
        reasoning: What the model thought before the answer, where it is known.
    """

    role: Role
    content: str
    reasoning: str = ""


Conversation = tuple[Message, ...]
