"""Chat: messages, chat templates, and the token spans of each turn."""

from personascope.chat._format import ChatFormat
from personascope.chat._messages import Conversation, Message, Role
from personascope.chat._spans import Rendered, TurnSpan
from personascope.chat._transcript import TranscriptFormat

__all__ = ["ChatFormat", "Conversation", "Message", "Rendered", "Role", "TranscriptFormat", "TurnSpan"]
