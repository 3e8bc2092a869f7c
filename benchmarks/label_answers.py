"""Answers that readers labelled, for the benchmark of the offline judge of labels.

``labels/RUBRIC.jsonl`` holds one reading a line: id, model, condition, role, system_prompt, question,
response, label, reader, half ("train" or "held_out"). Several lines may read the same answer: the label
is then that of most readers, and of the last line where they are even.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personascope.errors import JudgeError
from personascope.judge import JudgeItem, Rubric

HALVES = ("train", "held_out")
FIELDS = (
    "id",
    "model",
    "condition",
    "role",
    "system_prompt",
    "question",
    "response",
    "label",
    "reader",
    "half",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its settled label and all its readings, as (reader, label)."""

    item: JudgeItem
    model: str
    half: str
    label: str
    readings: tuple[tuple[str, str], ...]

    @property
    def group(self) -> str:
        """What must not be on both sides of a fold."""
        return self.item.role or self.item.question


def read_answers(path: Path, rubric: Rubric) -> list[Answer]:
    """Return the labelled answers of a file.

    Raises:
        JudgeError: If a line lacks a field, has a label or half that there is not, or contradicts an earlier
            line on the same answer.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(text)
        missing = [name for name in FIELDS if name not in row]
        if missing or row["label"] not in rubric.labels or row["half"] not in HALVES:
            wrong = f"no {', '.join(missing)}" if missing else f"label {row['label']!r}, half {row['half']!r}"
            raise JudgeError(
                f"{path.name}, line {number}: {wrong}",
                hint=f"give {', '.join(FIELDS)}, a label of {list(rubric.labels)}, a half of {list(HALVES)}",
            )
        same = lines.setdefault(row["id"], [])
        if same and any(row[name] != same[0][name] for name in FIELDS if name not in ("label", "reader")):
            raise JudgeError(
                f"{path.name}, line {number}: {row['id']} differs from its earlier line",
                hint="let only label and reader differ between readings of one answer",
            )
        same.append(row)
    answers = []
    for id, rows in lines.items():
        votes = Counter(row["label"] for row in rows).most_common()
        most = [label for label, count in votes if count == votes[0][1]]
        first = rows[0]
        item = JudgeItem(
            id, first["role"], "", first["system_prompt"], first["question"], first["response"], rubric=rubric
        )
        label = most[0] if len(most) == 1 else rows[-1]["label"]
        readings = tuple((row["reader"], row["label"]) for row in rows)
        answers.append(Answer(item, first["model"], first["half"], label, readings))
    return answers


def agreement(answers: Iterable[Answer], rubric: Rubric) -> dict[str, Any]:
    """Return how the first two readers of the answers with several readers agree."""
    pairs = [answer.readings[:2] for answer in answers if len({who for who, _ in answer.readings[:2]}) == 2]
    if not pairs:
        return {"answers": 0}
    one = np.array([rubric.index(pair[0][1]) for pair in pairs])
    two = np.array([rubric.index(pair[1][1]) for pair in pairs])
    return {
        "answers": len(pairs),
        "accuracy": float((one == two).mean()),
        "kappa": kappa_of(one, two, len(rubric.labels)),
    }


def digest_of(answers: Sequence[Answer]) -> str:
    """Return the hex SHA-256 of answers with their labels, whatever their order."""
    rows = sorted(
        [
            a.item.id,
            a.item.role,
            a.item.system_prompt,
            a.item.question,
            a.item.response,
            a.label,
            a.half,
        ]
        for a in answers
    )
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def kappa_of(read: NDArray[np.int64], guess: NDArray[np.int64], n: int) -> float:
    """Return Cohen's kappa; NaN where both sides hold one and the same label throughout."""
    table = np.zeros((n, n))
    np.add.at(table, (read, guess), 1.0)
    table /= table.sum()
    chance = float(table.sum(1) @ table.sum(0))
    return (float(np.trace(table)) - chance) / (1 - chance) if chance < 1 else float("nan")
