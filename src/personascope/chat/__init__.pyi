from ._format import ChatFormat
from ._messages import Conversation, Message, Role
from ._options import ChatOptions, Thinking, parse_argument
from ._parts import ReplyMarks
from ._reasoning import split_reasoning
from ._reply import PARTS, Part, ReplyFormat, ReplyReader, ReplySpan
from ._spans import Rendered, TurnSpan
from ._transcript import TranscriptFormat

__all__ = [
    "PARTS",
    "ChatFormat",
    "ChatOptions",
    "Conversation",
    "Message",
    "Part",
    "Rendered",
    "ReplyFormat",
    "ReplyMarks",
    "ReplyReader",
    "ReplySpan",
    "Role",
    "Thinking",
    "TranscriptFormat",
    "TurnSpan",
    "parse_argument",
    "split_reasoning",
]
