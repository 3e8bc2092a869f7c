"""The offline multiple-choice capability task, run under many conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from personascope.corpus.datasets import ChoiceQuestion, load_basics
from personascope.engines import Completion, Engine, Scored, ScoreRequest
from personascope.errors import EngineError, UsageError
from personascope.evals._conditions import Condition
from personascope.judge import JudgeItem
from personascope.runs import Job, ProgressCallback, chat_notes, collect, dated, shown
from personascope.store import RunFolder

SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("group", pa.string()),
        ("choice", pa.int8()),
        ("correct", pa.bool_()),
        ("logprob_correct", pa.float32()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class BasicsRows:
    """Results of one condition.

    Attributes:
        name: Name of the condition.
        trials: Question ids, [n].
        correct: Whether the right answer was the most likely one, [n] bool.
    """

    name: str
    trials: tuple[str, ...]
    correct: np.ndarray


def run_basics(
    engine: Engine,
    conditions: Sequence[Condition],
    *,
    out: Path | str,
    questions: Sequence[ChoiceQuestion] | None = None,
    restart: bool = False,
    command: str = "",
    progress: ProgressCallback | bool = True,
) -> list[BasicsRows]:
    """Score the questions of ``personascope_basics`` under every condition; resume an interrupted run.

    An answer's score is the sum of its tokens' log-probabilities after the question and a new line with
    "Answer:", as in lm-evaluation-harness's ``acc``.

    Args:
        engine: Engine of the model.
        conditions: Conditions to run; their names must differ.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        questions: Questions to score; the built-in ones by default.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.
        progress: Whether to show a progress bar, or a callback to call after each scored answer instead.

    Raises:
        UsageError: If two conditions share a name, or there is no question.
        StoreError: If the folder holds another run or cannot be written.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    asked = tuple(load_basics() if questions is None else questions)
    names = [condition.name for condition in conditions]
    if len(set(names)) < len(names) or not asked:
        raise UsageError(
            f"{len(asked)} questions under the conditions {', '.join(names)}", hint="name each once"
        )
    identity = {
        "evaluation": "basics",
        "questions": [[q.id, q.question, list(q.choices), q.answer] for q in asked],
        "conditions": [[c.name, c.plan.digest if c.plan else None] for c in conditions],
        "model": [engine.info.model_id, engine.info.model_revision, engine.info.dtype],
    }
    notes = {"command": command, **chat_notes(engine.info)}
    job = _BasicsJob(engine, asked, conditions)
    with (
        shown(progress) as tell,
        RunFolder.open(out, identity, notes, restart=restart) as folder,
    ):
        collect(engine, job, folder, None, progress=tell)
        tables = [folder.rows(index) for index in range(len(conditions))]
    return [
        BasicsRows(
            condition.name,
            tuple(table["trial"].to_pylist()),
            np.array(table["correct"].to_pylist(), bool),
        )
        for condition, table in zip(conditions, tables, strict=True)
    ]


@dataclass(slots=True, eq=False)
class _Unit:
    """Work unit of one condition.

    Attributes:
        index: Index of the condition.
        sums: Request id -> log-probability of its answer.
    """

    index: int
    sums: dict[str, float] = field(default_factory=dict[str, float])


class _BasicsJob(Job[_Unit]):
    wave = 1

    def __init__(
        self, engine: Engine, asked: Sequence[ChoiceQuestion], conditions: Sequence[Condition]
    ) -> None:
        self.asked, self.conditions = asked, conditions
        self.total = sum(len(question.choices) for question in asked) * len(conditions)
        self.pairs = {
            f"{question.id}/{number}": pair
            for question in asked
            for number, pair in enumerate(answer_tokens(engine, question))
        }

    def done(self, folder: RunFolder) -> int:
        return len(folder.units) * len(self.pairs)

    def unscored(self, folder: RunFolder) -> int:
        del folder
        return 0

    def todo(self, folder: RunFolder) -> Iterator[_Unit]:
        return (_Unit(index) for index in range(len(self.conditions)) if index not in folder.units)

    def name(self, unit: _Unit) -> str:
        return self.conditions[unit.index].name

    def requests(self, unit: _Unit) -> Sequence[ScoreRequest]:
        plan = self.conditions[unit.index].plan
        return [
            ScoreRequest(id, opening, answer, plan)
            for id, (opening, answer) in self.pairs.items()
            if id not in unit.sums
        ]

    def take(self, unit: _Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        assert isinstance(result, Scored)
        unit.sums[result.id] = float(result.logprobs.sum())
        return ()

    def commit(self, folder: RunFolder, unit: _Unit) -> None:
        rows: list[dict[str, Any]] = []
        for question in self.asked:
            values = [unit.sums[f"{question.id}/{number}"] for number in range(len(question.choices))]
            best = int(np.argmax(values))
            rows.append(
                {
                    "trial": question.id,
                    "group": question.subject,
                    "choice": best,
                    "correct": best == question.answer,
                    "logprob_correct": values[question.answer],
                }
            )
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        folder.commit(unit.index, rows=table, meta={"condition": self.name(unit)}, parts={})


def answer_tokens(
    engine: Engine, question: ChoiceQuestion
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield, for each answer, the tokens of the question and those of the answer.

    Raises:
        EngineError: If the tokenizer joins the end of the question and the answer in one token.
    """
    prompt = f"Question: {question.question}\nAnswer:"
    opening = engine.encode(prompt, special=True)
    for choice in question.choices:
        # Tokenize them together, because a word after a space gets other tokens than the word alone.
        whole = engine.encode(f"{prompt} {choice}", special=True)
        if whole[: len(opening)] != opening:
            raise EngineError(
                f"the tokenizer joins the question {question.id} and its answer {choice!r} in one token",
                hint="use lm-evaluation-harness (personascope_basics) for this model",
            )
        yield opening, whole[len(opening) :]
