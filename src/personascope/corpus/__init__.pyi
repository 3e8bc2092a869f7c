from ._check import Finding, check_corpus
from ._load import load_corpus
from ._types import PERSONAL, PROMPTS_PER_ROLE, QUESTION_COUNT, Corpus, Question, RoleEntry
from ._write import write_released

__all__ = [
    "PERSONAL",
    "PROMPTS_PER_ROLE",
    "QUESTION_COUNT",
    "Corpus",
    "Finding",
    "Question",
    "RoleEntry",
    "check_corpus",
    "load_corpus",
    "write_released",
]
