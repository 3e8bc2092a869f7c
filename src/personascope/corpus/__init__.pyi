from ._check import check_corpus
from ._load import load_corpus
from ._types import PERSONAL, Corpus, Question, RoleEntry
from ._write import write_released

__all__ = [
    "PERSONAL",
    "Corpus",
    "Question",
    "RoleEntry",
    "check_corpus",
    "load_corpus",
    "write_released",
]
