"""The corpus: roles with their system prompts, the questions asked of all of them, the default.

Data files and their schema. ``load_corpus`` reads the built-in corpus, a folder in the project's
YAML format, or a folder in the released JSON format; the same texts give the same
``Corpus.requests_digest`` in either format. ``check_corpus`` finds what the
schema cannot see: duplicates, near-duplicates, thin or lopsided counts.
"""

from __future__ import annotations

from personascope.corpus._check import Finding, check_corpus
from personascope.corpus._load import load_corpus
from personascope.corpus._types import PERSONAL, PROMPTS_PER_ROLE, QUESTION_COUNT, Corpus, Question, RoleEntry
from personascope.corpus._write import write_released

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
