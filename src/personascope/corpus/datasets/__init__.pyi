from ._chats import CHAT_LIMIT, ChatSet, load_chats
from ._data import refuse_repeats
from ._jailbreak import JailbreakItem, JailbreakSet, load_harmful_questions, load_jailbreak_set
from ._openings import Opening, load_openings
from ._personas import Persona, load_personas
from ._questions import TASKS, ChoiceQuestion, SumQuestion, load_basics, load_sums
from ._shapes import HOLDERS, ROLE_OF, content, in_turn, no_text, speaker
from ._sources import Record, read_records, text_records
from ._susceptibility import (
    IntrospectiveQuestion,
    RoleTemplate,
    Susceptibility,
    load_susceptibility,
    role_phrase,
    susceptibility_prompts,
    susceptibility_questions,
)

__all__ = [
    "CHAT_LIMIT",
    "HOLDERS",
    "ROLE_OF",
    "TASKS",
    "ChatSet",
    "ChoiceQuestion",
    "IntrospectiveQuestion",
    "JailbreakItem",
    "JailbreakSet",
    "Opening",
    "Persona",
    "Record",
    "RoleTemplate",
    "SumQuestion",
    "Susceptibility",
    "content",
    "in_turn",
    "load_basics",
    "load_chats",
    "load_harmful_questions",
    "load_jailbreak_set",
    "load_openings",
    "load_personas",
    "load_sums",
    "load_susceptibility",
    "no_text",
    "read_records",
    "refuse_repeats",
    "role_phrase",
    "speaker",
    "susceptibility_prompts",
    "susceptibility_questions",
    "text_records",
]
