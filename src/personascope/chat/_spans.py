"""Rendered conversations: token ids, and the tokens of each turn."""

from __future__ import annotations

from dataclasses import dataclass

from personascope.chat._messages import Role
from personascope.chat._reply import ReplyFormat


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """Token span of one message's content, ``token_ids[start:end]``.

    Attributes:
        index: Index of the message in the conversation.
        role: Role of the message.
        start: Index of the first token that holds a character of the content.
        end: One past the index of the last such token; equal to ``start`` for an empty content.
    """

    index: int
    role: Role
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the model reads it.

    Attributes:
        token_ids: Token ids of the whole prompt.
        spans: Span of each message, in the conversation's order.
        text: Rendered text, before tokenisation.
        thinking: Span of the reasoning of each message that has any, in the conversation's order; empty if
            the template leaves the reasoning out.
        reply: Format of a reply that follows; None if all of it is the answer.
    """

    token_ids: tuple[int, ...]
    spans: tuple[TurnSpan, ...]
    text: str
    thinking: tuple[TurnSpan, ...] = ()
    reply: ReplyFormat | None = None
