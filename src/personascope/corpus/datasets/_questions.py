"""Load the local capability tasks: questions with one right answer, which lm-evaluation-harness reads too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from personascope.corpus._schema import Filled, Name
from personascope.corpus.datasets._data import DATA, read_lines, refuse_repeats

TASKS = ("personascope_basics", "personascope_sums")
"""Names of the tasks in ``lm_eval_task_folder``."""


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question with four answers, one of them right.

    Attributes:
        id: Id ``<subject>_<number>``.
        subject: One of eight subjects, with twenty questions each.
        question: Text of the question.
        choices: Four answers.
        answer: Index of the right answer; each index is right equally often in every subject.
    """

    id: str
    subject: str
    question: str
    choices: tuple[str, str, str, str]
    answer: int


@dataclass(frozen=True, slots=True)
class SumQuestion:
    """A one-step word problem.

    Attributes:
        id: Id ``<split>_<number>``.
        split: ``test``, or ``example`` for the ones shown with their answers.
        question: Text of the problem.
        answer: Whole number that it asks for.
        worked: Sum written out, for an example; otherwise empty.
    """

    id: str
    split: Literal["test", "example"]
    question: str
    answer: int
    worked: str = ""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _ChoiceData(_Strict):
    id: Name
    subject: Name
    question: Filled
    choices: Annotated[list[Filled], Field(min_length=4, max_length=4)]
    answer: Annotated[int, Field(ge=0, le=3)]


class _SumData(_Strict):
    id: Name
    split: Literal["test", "example"]
    question: Filled
    answer: int
    worked: str = ""


@lru_cache(maxsize=1)
def load_basics() -> tuple[ChoiceQuestion, ...]:
    """Return the 160 questions of ``personascope_basics``.

    They cover common knowledge, word meanings, opposites, everyday causes and small sums. They are easy
    enough that a model of 135 million parameters is well above the quarter that guessing gives, and hard
    enough that it has room to fall or rise.
    """
    path = DATA / "basics.jsonl"
    found: list[ChoiceQuestion] = []
    for data in read_lines(_ChoiceData, path):
        first, second, third, fourth = data.choices
        choices = (first, second, third, fourth)
        found.append(ChoiceQuestion(data.id, data.subject, data.question, choices, data.answer))
    refuse_repeats([question.id for question in found], "id", path)
    return tuple(found)


@lru_cache(maxsize=1)
def load_sums() -> tuple[SumQuestion, ...]:
    """Return the problems of ``personascope_sums``: 4 examples and 40 test problems."""
    path = DATA / "sums.jsonl"
    found = [SumQuestion(d.id, d.split, d.question, d.answer, d.worked) for d in read_lines(_SumData, path)]
    refuse_repeats([question.id for question in found], "id", path)
    return tuple(found)
