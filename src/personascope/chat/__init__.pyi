from ._format import ChatFormat
from ._messages import Conversation, Message, Role
from ._options import ChatOptions, parse_argument
from ._reasoning import split_reasoning
from ._reply import PARTS, ReplyFormat, ReplyReader, ReplySpan
from ._spans import Rendered, TurnSpan
from ._transcript import TranscriptFormat

__all__ = [
    "PARTS",
    "ChatFormat",
    "ChatOptions",
    "Conversation",
    "Message",
    "Rendered",
    "ReplyFormat",
    "ReplyReader",
    "ReplySpan",
    "Role",
    "TranscriptFormat",
    "TurnSpan",
    "parse_argument",
    "split_reasoning",
]
