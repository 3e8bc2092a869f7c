"""Nuisance variables that may explain a component: length, ending, formatting, script, style, garble.

Each is averaged per role over the responses of the role's vector, and correlated over roles with the roles'
projections on the axis and the first components. If a component correlates strongly with a nuisance, it may
measure that rather than a persona, and the map says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.judge import FIRST_PERSON, JudgeItem, ai_mentions
from personascope.mapping._design import DEFAULT, Design
from personascope.mapping._sums import Vectors, slot_of
from personascope.space import NUISANCES
from personascope.store import RunFolder
from personascope.text import nonsense

BROKEN = 0.03
"""Share of invalid or control characters above which a text counts as garbled."""
_WORD = re.compile(r"\w+")
_FORMATTED = re.compile(r"^\s*(?:\d+[.)]|[-*•]|#{1,4}|```)\s*\S|\*\*\S", re.M)


def measure(row: Mapping[str, Any], description: str) -> tuple[float, ...]:
    """Return the nuisances of one response, in the order of `NUISANCES`.

    Args:
        row: A row of rollouts.parquet.
        description: Description of its role, which decides what counts as a self-reference as an AI.
    """
    text = row["text"] or ""
    words = _WORD.findall(text)
    letters = [char for char in text if char.isalpha()]
    item = JudgeItem(
        id=row["id"],
        role=row["role"],
        description=description,
        system_prompt=row["system_prompt"] or "",
        question=row["question"] or "",
        response=text,
        eval_prompt=None,
    )
    return (
        float(np.log1p(row["token_count"] or 0)),
        float(row["finish_reason"] == "stop"),
        float(bool(_FORMATTED.search(text))),
        sum(ord(char) > 0x24F for char in letters) / max(len(letters), 1),
        float(bool(ai_mentions(item))),
        len(FIRST_PERSON.findall(text)) / max(len(words), 1),
        float(nonsense(text) is not None or _broken(text)),
    )


def _broken(text: str) -> bool:
    """Return whether more than ``BROKEN`` of the characters are invalid or control characters."""
    strange = sum(
        char == "\ufffd" or (unicodedata.category(char) == "Cc" and not char.isspace()) for char in text
    )
    return strange > BROKEN * len(text)


class NuisanceMeans:
    """Running means of the nuisances by role, and counts of truncated, garbled and played responses."""

    def __init__(self, design: Design, vectors: Vectors) -> None:
        """Start with no rows."""
        self._design = design
        self._rubric = vectors == "rubric"
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}
        self.responses = 0
        self.cut = 0
        self.garbled = 0
        self.log_probabilities: list[float] = []
        self.information: dict[str, list[float]] = {}
        self.played: dict[str, int] = {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of rollouts.parquet."""
        for row in rows:
            if not row["token_count"]:
                continue
            role = row["role"]
            description = "" if role == DEFAULT else self._design.role(role).description
            values = np.array(measure(row, description))
            self.responses += 1
            self.cut += row["finish_reason"] == "length"
            self.garbled += bool(values[-1])
            if row["log_probability"] is not None:
                self.log_probabilities.append(row["log_probability"])
            if row["role_information"] is not None:
                self.information.setdefault(role, []).append(row["role_information"])
                self.played[role] = self.played.get(role, 0) + bool(row["played"])
            played = None if self._rubric else row["played"]
            bucket, _ = slot_of(row["score"], row["fold"], played)
            if bucket == "fully" and row["status"] != "unscored":
                self._sums[role] = self._sums.get(role, 0.0) + values
                self._counts[role] = self._counts.get(role, 0) + 1

    def means(self, roles: Iterable[str]) -> Float[np.ndarray, "R N"]:
        """Return each role's means; NaN for a role without a counted response."""
        nothing = np.full(len(NUISANCES), np.nan)
        return np.stack(
            [self._sums[role] / self._counts[role] if role in self._sums else nothing for role in roles]
        )


def nuisance_means(folder: RunFolder, design: Design, vectors: Vectors) -> NuisanceMeans:
    """Compute the nuisance means over all rows of a run, with one unit in memory at a time."""
    found = NuisanceMeans(design, vectors)
    for index in sorted(folder.units):
        found.add(folder.rows(index).to_pylist())
    return found
