from ._format import ChatFormat
from ._messages import Conversation, Message, Role
from ._spans import Rendered, TurnSpan
from ._transcript import TranscriptFormat

__all__ = ["ChatFormat", "Conversation", "Message", "Rendered", "Role", "TranscriptFormat", "TurnSpan"]
