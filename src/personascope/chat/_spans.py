"""What rendering a conversation returns."""

from __future__ import annotations

from dataclasses import dataclass

from personascope.chat._messages import Role
from personascope.chat._reply import ReplyFormat


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """The tokens of one message's content, ``token_ids[start:end]``.

    Attributes:
        index: Position of the message in the conversation.
        role: The message's role.
        start: First token that holds a character of the content.
        end: One past the last such token; equal to ``start`` for an empty content.
    """

    index: int
    role: Role
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as a model reads it.

    Attributes:
        token_ids: The whole prompt.
        spans: One span for each message, in the conversation's order.
        text: The rendering before it was tokenised.
        thinking: One span for each message with reasoning, in the conversation's order; an empty one where
            the template leaves the reasoning out.
        reply: How the tokens of a reply that follows are told apart; None if all of it is the answer.
    """

    token_ids: tuple[int, ...]
    spans: tuple[TurnSpan, ...]
    text: str
    thinking: tuple[TurnSpan, ...] = ()
    reply: ReplyFormat | None = None
