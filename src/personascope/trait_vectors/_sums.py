"""Pair differences of a trait run, read layer by layer from its units."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from personascope.errors import StoreError
from personascope.space import FoldDesign
from personascope.store import RunFolder, TensorFile
from personascope.trait_vectors._design import TraitDesign
from personascope.trait_vectors._unit import SUMS, fold_counts


class TraitSums:
    """The sums of a trait run's folder, with one layer in memory at a time (implements ``PairSums``).

    Args:
        folder: Run folder.
        design: Design of the run.
        shape: Number of layers of the model, and width of the residual stream.

    Raises:
        StoreError: If a unit's sums are missing or damaged.
    """

    def __init__(self, folder: RunFolder, design: TraitDesign, shape: tuple[int, int]) -> None:
        """Read the counts; sums are read on demand."""
        self._shape, self._n_folds = shape, design.n_folds
        self.fold_design: FoldDesign = design.fold_design
        self.traits = tuple(trait.name for trait in design.traits)
        self._files: list[list[tuple[TensorFile, dict[int, int]]]] = []
        for index in range(len(design.traits)):
            files: list[tuple[TensorFile, dict[int, int]]] = []
            for unit in design.units_of(index):
                if unit not in folder.units:
                    continue
                part = folder.part(unit, "sums")
                if part is None or SUMS not in part.metadata:
                    raise StoreError(
                        f"the sums of unit {unit} in {folder.path} are missing or damaged",
                        hint="copy the file back from where the run was made, or run again with --restart",
                    )
                files.append((part, fold_counts(part.metadata)))
            self._files.append(files)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self._shape[0]

    def counts(self) -> Int64[np.ndarray, "traits folds"]:
        """Return the number of kept pairs in each sum."""
        found = np.zeros((len(self.traits), self._n_folds), np.int64)
        for index, files in enumerate(self._files):
            for _, counts in files:
                for fold, count in counts.items():
                    found[index, fold] += count
        return found

    def sums(self, layer: int) -> Float32[np.ndarray, "traits folds d"]:
        """Return the sums at one layer."""
        found = np.zeros((len(self.traits), self._n_folds, self._shape[1]), np.float32)
        for index, files in enumerate(self._files):
            for file, counts in files:
                if not counts:
                    continue
                for fold, values in zip(counts, file.read(SUMS, layer), strict=True):
                    found[index, fold] += values
        return found
