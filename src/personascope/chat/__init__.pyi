from ._format import ChatFormat
from ._messages import Conversation, Message, Role
from ._options import ChatOptions, parse_argument
from ._parts import Channels, ReplyMarks
from ._reasoning import CLOSING_TAG, OPENING_TAG, split_reasoning
from ._reply import PARTS, ReplyFormat, ReplyReader, ReplySpan
from ._spans import Rendered, TurnSpan
from ._transcript import TranscriptFormat

__all__ = [
    "CLOSING_TAG",
    "OPENING_TAG",
    "PARTS",
    "Channels",
    "ChatFormat",
    "ChatOptions",
    "Conversation",
    "Message",
    "Rendered",
    "ReplyFormat",
    "ReplyMarks",
    "ReplyReader",
    "ReplySpan",
    "Role",
    "TranscriptFormat",
    "TurnSpan",
    "parse_argument",
    "split_reasoning",
]
