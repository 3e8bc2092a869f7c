from ._chats import load_chats
from ._data import refuse_repeats
from ._jailbreak import JailbreakItem, JailbreakSet, load_harmful_questions, load_jailbreak_set
from ._message_fields import MESSAGE_FIELDS, Held, conversations_of
from ._message_forms import is_no_text, is_thought, plain, reasoning_of, text_of
from ._openings import Opening, load_openings
from ._questions import ChoiceQuestion, load_basics, load_sums
from ._shapes import ROLE_OF, content, in_turn, no_text, speaker
from ._sources import Record, read_records, text_records
from ._susceptibility import Susceptibility, load_susceptibility

__all__ = [
    "MESSAGE_FIELDS",
    "ROLE_OF",
    "ChoiceQuestion",
    "Held",
    "JailbreakItem",
    "JailbreakSet",
    "Opening",
    "Record",
    "Susceptibility",
    "content",
    "conversations_of",
    "in_turn",
    "is_no_text",
    "is_thought",
    "load_basics",
    "load_chats",
    "load_harmful_questions",
    "load_jailbreak_set",
    "load_openings",
    "load_sums",
    "load_susceptibility",
    "no_text",
    "plain",
    "read_records",
    "reasoning_of",
    "refuse_repeats",
    "speaker",
    "text_of",
    "text_records",
]
