"""The local capability task under many conditions: which of four answers is the most likely one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from personascope.corpus.evals import ChoiceQuestion, load_basics
from personascope.engines import Engine, ScoreRequest
from personascope.errors import EngineError, UsageError
from personascope.evals._conditions import Condition
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
    """What is known of one condition.

    Attributes:
        name: The condition's name.
        trials: Question ids, [n].
        correct: Whether the right answer was the most likely, [n] bool.
    """

    name: str
    trials: tuple[str, ...]
    correct: np.ndarray


def run_basics(
    engine: Engine,
    conditions: Sequence[Condition],
    *,
    out: Path,
    questions: Sequence[ChoiceQuestion] | None = None,
    restart: bool = False,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[BasicsRows]:
    """Score the questions of ``personascope_basics`` under every condition; a killed run goes on.

    An answer's score is the sum of its tokens' log-probabilities after the question and, on a line of
    its own, "Answer:", as in lm-evaluation-harness's ``acc``.

    Args:
        engine: The model.
        conditions: Under what; names must differ.
        out: The run folder, new or of an earlier call with the same arguments.
        questions: The built-in ones by default.
        restart: Forget a run that is in the folder.
        command: Recorded.
        progress: Called with conditions done and in all.

    Raises:
        UsageError: If two conditions share a name, or there is no question.
        StoreError: If the folder holds another run or cannot be written.
    """
    asked = tuple(load_basics() if questions is None else questions)
    names = [condition.name for condition in conditions]
    if len(set(names)) < len(names) or not asked:
        raise UsageError(
            f"{len(asked)} questions under the conditions {', '.join(names)}", mend="name each once"
        )
    identity = {
        "evaluation": "basics",
        "questions": [[q.id, q.question, list(q.choices), q.answer] for q in asked],
        "conditions": [[c.name, c.plan.digest if c.plan else None] for c in conditions],
        "model": [engine.info.model_id, engine.info.model_revision, engine.info.dtype],
    }
    found: list[BasicsRows] = []
    with RunFolder.open(out, identity, {"command": command}, restart=restart) as folder:
        for index, condition in enumerate(conditions):
            if index not in folder.units:
                rows = _score(engine, asked, condition)
                table = pa.Table.from_pylist(rows, schema=SCHEMA)
                folder.commit(index, rows=table, meta={"condition": condition.name}, parts={})
            if progress is not None:
                progress(index + 1, len(conditions))
            table = folder.rows(index)
            found.append(
                BasicsRows(
                    condition.name,
                    tuple(table["trial"].to_pylist()),
                    np.array(table["correct"].to_pylist(), bool),
                )
            )
    return found


def _score(engine: Engine, asked: Sequence[ChoiceQuestion], condition: Condition) -> list[dict[str, Any]]:
    requests: list[ScoreRequest] = []
    for question in asked:
        prompt = f"Question: {question.question}\nAnswer:"
        opening = engine.encode(prompt, special=True)
        for number, choice in enumerate(question.choices):
            # Tokenized together, because a word after a space is another token than the word alone.
            whole = engine.encode(f"{prompt} {choice}", special=True)
            if whole[: len(opening)] != opening:
                raise EngineError(
                    f"the tokenizer joins the question {question.id} and its answer {choice!r} in one token",
                    mend="use lm-evaluation-harness (personascope_basics) for this model",
                )
            requests.append(
                ScoreRequest(f"{question.id}/{number}", opening, whole[len(opening) :], condition.plan)
            )
    digest = condition.plan.digest if condition.plan else None
    sums: dict[str, float] = {}
    for scored in engine.score(requests):
        if scored.plan_digest != digest:
            raise EngineError(f"{scored.id} was scored under the plan {scored.plan_digest}, not {digest}")
        sums[scored.id] = float(scored.logprobs.sum())
    rows: list[dict[str, Any]] = []
    for question in asked:
        values = [sums[f"{question.id}/{number}"] for number in range(len(question.choices))]
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
    return rows
