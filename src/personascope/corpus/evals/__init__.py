"""The texts of the evaluations: what is asked, under which prompts, and on what ordinary chats.

Role susceptibility, persona jailbreaks, openings for pre-trained models, ordinary chats for residual
norms, and a small capability task that needs no network. The texts are our own; for each but the
capability task a user can name another file or dataset.
"""

from __future__ import annotations

from personascope.corpus.evals._chats import CHAT_LIMIT, ChatSet, load_chats
from personascope.corpus.evals._jailbreak import (
    JailbreakItem,
    JailbreakSet,
    load_harmful_questions,
    load_jailbreak_set,
)
from personascope.corpus.evals._openings import Opening, load_openings
from personascope.corpus.evals._personas import Persona, load_personas
from personascope.corpus.evals._questions import (
    TASKS,
    ChoiceQuestion,
    SumQuestion,
    lm_eval_task_folder,
    load_basics,
    load_sums,
)
from personascope.corpus.evals._shapes import HOLDERS, ROLE_OF, content, in_turn, no_text, speaker
from personascope.corpus.evals._sources import Record, read_records, text_records
from personascope.corpus.evals._susceptibility import (
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
    "lm_eval_task_folder",
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
    "role_phrase",
    "speaker",
    "susceptibility_prompts",
    "susceptibility_questions",
    "text_records",
]
