"""Sample answers and counts of each role, from the Parquet files of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import StoreError
from personascope.report.map_page._data import Sample

COLUMNS = ("role", "prompt_index", "question_index", "question", "text", "score", "status")
TEXT_LIMIT = 6000
"""Maximum number of characters shown of a question or an answer."""

PAGE_LIMIT = 500_000
"""Number of bytes of all questions and answers on the page, beyond which the longest are cut."""


@dataclass
class Answers:
    """Answers of one role in a run's files.

    Attributes:
        counts: Label (``score 3`` or a status) -> number of responses.
        best: Score -> selected samples, each with its random key.
    """

    counts: Counter[str] = field(default_factory=Counter)
    best: dict[int | None, list[tuple[bytes, Sample]]] = field(default_factory=dict)

    def samples(self, limit: int) -> tuple[Sample, ...]:
        """Return at most ``limit`` samples, round-robin over scores from 3 down."""
        order = sorted(self.best, key=lambda score: -1 if score is None else score, reverse=True)
        rounds = max((len(found) for found in self.best.values()), default=0)
        picked = [self.best[s][i][1] for i in range(rounds) for s in order if i < len(self.best[s])]
        return tuple(picked[:limit])


def rollout_files(run_folder: Path) -> list[Path]:
    """Return the rollout files of the committed units, in order; empty if there is no run."""
    return sorted(p for p in run_folder.glob("units/*/rollouts.parquet") if p.parent.name.isdigit())


def read_answers(files: list[Path], per_role: int) -> dict[str, Answers]:
    """Read counts and samples of every role, with one file in memory at a time.

    Samples are chosen by a digest of the response's location, so that reports of the same run have the same
    samples.

    Raises:
        StoreError: If a file cannot be read or lacks a column.
    """
    roles: dict[str, Answers] = {}
    for path in files:
        try:
            table = pq.read_table(path, columns=list(COLUMNS))
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{path} cannot be read: {error}", hint="make the report without the run's folder"
            ) from error
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise StoreError(
                f"{path} lacks the column {missing[0]!r}", hint="make the report without the run's folder"
            )
        for place, row in enumerate(table.to_pylist()):
            answers = roles.setdefault(row["role"], Answers())
            score = row["score"]
            answers.counts[row["status"] if score is None else f"score {score}"] += 1
            if not row["text"]:
                continue
            where = f"{row['role']}/{row['prompt_index']}/{row['question_index']}/{path.parent.name}/{place}"
            key = hashlib.sha256(where.encode()).digest()
            found = answers.best.setdefault(score, [])
            if len(found) < per_role or key < found[-1][0]:
                found.append((key, _sample(row["question"] or "", row["text"], score)))
                found.sort(key=lambda pair: pair[0])
                del found[per_role:]
    return roles


def _sample(question: str, text: str, score: int | None) -> Sample:
    return Sample(question[:TEXT_LIMIT], text[:TEXT_LIMIT], score, max(0, len(text) - TEXT_LIMIT))


def text_limit(samples: Iterable[Sample], budget: int = PAGE_LIMIT) -> int:
    """Return the number of bytes to which questions and answers are cut so that all fit in a budget."""
    lengths = sorted(len(_bytes(text)) for one in samples for text in (one.question, one.text))
    left = budget
    for place, length in enumerate(lengths):
        share = left // (len(lengths) - place)
        if length > share:
            return share
        left -= length
    return 4 * TEXT_LIMIT


def cut(sample: Sample, limit: int) -> Sample:
    """Return a sample whose question and answer have at most so many bytes of UTF-8."""
    question, text = _cut(sample.question, limit), _cut(sample.text, limit)
    return replace(sample, question=question, text=text, cut=sample.cut + len(sample.text) - len(text))


def _cut(text: str, limit: int) -> str:
    # What is cut off in mid-character is dropped; a lone surrogate is three bytes.
    return text if len(text) * 4 <= limit else _bytes(text)[:limit].decode("utf-8", "ignore")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
