"""Regress response length out of a run's sums, within questions.

Response length shifts activations, whatever the role. The slope of the activations on log length is estimated
on the kept sample, with a fixed effect for every question, separately for roles and default, so that neither
the questions nor the difference of the default bias it. Every sum is then moved to the mean length of its
question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from personascope.errors import SpaceError
from personascope.mapping._design import DEFAULT
from personascope.mapping._sums import RunSums, Vectors, slot_of
from personascope.space import Bucket, FoldDesign
from personascope.store import RunFolder

MIN_SAMPLE = 30
"""Minimum number of kept responses for estimating the slope."""


class LengthAdjusted:
    """Sums of a run with response length regressed out (implements ``FoldSums``)."""

    def __init__(self, sums: RunSums, folder: RunFolder, vectors: Vectors) -> None:
        """Estimate the slopes from the kept sample, and each sum's total deviation from the mean log length.

        Raises:
            SpaceError: If fewer than 30 responses were kept, or they do not differ in length.
        """
        self._sums = sums
        lengths: dict[int, list[float]] = {}
        found: list[tuple[str, Bucket, int, int, float]] = []
        by_id: dict[str, tuple[str, int, float]] = {}
        for index in sorted(folder.units):
            for row in folder.rows(index).to_pylist():
                if not row["token_count"] or row["status"] == "unscored":
                    continue
                length = float(np.log(row["token_count"]))
                played = row["played"] if vectors == "played" else None
                bucket, _ = slot_of(row["score"], row["fold"], played)
                question = row["question_index"]
                found.append((row["role"], bucket, row["fold"], question, length))
                lengths.setdefault(question, []).append(length)
                by_id[row["id"]] = row["role"], question, length
        means = {question: float(np.mean(values)) for question, values in lengths.items()}
        self._slopes = _slopes(folder, by_id, sums.n_layers, sums.d_model)
        self._beyond: dict[tuple[str, Bucket], np.ndarray] = {}
        for role, bucket, fold, question, length in found:
            key = role, bucket
            if key not in self._beyond:
                self._beyond[key] = np.zeros(sums.n_folds)
            self._beyond[key][fold] += length - means[question]

    @property
    def fold_design(self) -> FoldDesign:
        """The same as in the run's sums."""
        return self._sums.fold_design

    @property
    def roles(self) -> tuple[str, ...]:
        """The same as in the run's sums."""
        return self._sums.roles

    @property
    def n_layers(self) -> int:
        """The same as in the run's sums."""
        return self._sums.n_layers

    @property
    def d_model(self) -> int:
        """The same as in the run's sums."""
        return self._sums.d_model

    @property
    def n_folds(self) -> int:
        """The same as in the run's sums."""
        return self._sums.n_folds

    def counts(self, bucket: Bucket) -> Int64[np.ndarray, "roles folds"]:
        """The same as in the run's sums."""
        return self._sums.counts(bucket)

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """The same as in the run's sums."""
        return self._sums.default_counts()

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Return the sums of one bucket at one layer, moved to the mean length of their questions."""
        nothing = np.zeros(self.n_folds)
        beyond = np.stack([self._beyond.get((role, bucket), nothing) for role in self.roles])
        moved = self._sums.sums(bucket, layer) - beyond[:, :, None] * self._slopes[layer]
        return np.where(self.counts(bucket)[:, :, None] > 0, moved, 0.0).astype(np.float32)

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Return the default's sums at one layer, moved to the mean length of their questions."""
        beyond = self._beyond.get((DEFAULT, "fully"), np.zeros(self.n_folds))
        return (self._sums.default_sums(layer) - beyond[:, None] * self._slopes[layer]).astype(np.float32)


def _slopes(
    folder: RunFolder, by_id: Mapping[str, tuple[str, int, float]], n_layers: int, d_model: int
) -> Float[np.ndarray, "L d"]:
    """Return the slope of the pooled activations on log length, within questions."""
    cells: dict[tuple[bool, int], list[tuple[str, float]]] = {}
    for name in _kept(folder):
        if name in by_id:
            role, question, length = by_id[name]
            cells.setdefault((role == DEFAULT, question), []).append((name, length))
    about: dict[str, float] = {}
    for members in cells.values():
        mean = float(np.mean([length for _, length in members]))
        about |= {name: length - mean for name, length in members}
    spread = sum(value**2 for value in about.values())
    if len(about) < MIN_SAMPLE or spread <= 1e-9:
        raise SpaceError(
            f"{len(about)} kept responses do not suffice to regress their length out",
            hint=f"keep {MIN_SAMPLE} or more that differ in length, or leave the length as it is",
        )
    total = np.zeros((n_layers, d_model))
    for index in sorted(folder.units):
        part = folder.part(index, "kept")
        for name in () if part is None else part.specs:
            if name in about and part is not None:
                # The deviations sum to 0 within a question, so its fixed effect cancels.
                total += about[name] * part.read(name).astype(np.float64)
    return total / spread


def _kept(folder: RunFolder) -> Iterable[str]:
    for index in sorted(folder.units):
        part: Any = folder.part(index, "kept")
        yield from () if part is None else part.specs
