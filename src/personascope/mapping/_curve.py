"""The learning curve of a fixed design, from the folds of its finished run."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np

from personascope.engines import EngineInfo
from personascope.errors import SpaceError
from personascope.mapping._adaptive import WITH_VECTOR
from personascope.mapping._design import Design
from personascope.mapping._sums import RunSums, Vectors
from personascope.space import (
    CurvePoint,
    LayerSums,
    LearningCurve,
    curve_point,
    layer_sums,
    measure_precision,
)
from personascope.store import RunFolder

KIND = "block"


def fixed_curve(folder: RunFolder, design: Design, info: EngineInfo, vectors: Vectors) -> LearningCurve:
    """Return what the first 2, 3, ... blocks of questions know; no activation is read again.

    Args:
        folder: Run folder.
        design: Design of the run.
        info: Engine information: layers and width.
        vectors: Responses in the role vectors.
    """
    layer = info.n_layers // 2
    rollouts: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    for index in sorted(folder.units):
        for row in folder.rows(index).select(["fold", "token_count"]).to_pylist():
            rollouts[row["fold"]] += 1
            tokens[row["fold"]] += row["token_count"] or 0
    sums = layer_sums(RunSums(folder, design, info.n_layers, info.d_model, vectors=vectors), layer)
    blocks = np.array(design.fold_design.questions)
    with_vector = _with_vector(sums, np.ones(len(blocks), bool), design.profile.min_fully)
    points: list[CurvePoint] = []
    for number in range(2, int(blocks.max()) + 2):
        within = blocks < number
        folds = np.flatnonzero(within).tolist()
        found = None
        # With few roles, a look says little and not of the map's own roles.
        if _with_vector(sums, within, design.profile.min_fully) >= WITH_VECTOR * with_vector:
            with contextlib.suppress(SpaceError):
                found = measure_precision(
                    sums.only(within), min_fully=design.profile.min_fully, seed=design.seed, n_boot=50
                )
        points.append(
            curve_point(number, KIND, sum(rollouts[f] for f in folds), sum(tokens[f] for f in folds), found)
        )
    return LearningCurve(layer, tuple(points))


def _with_vector(sums: LayerSums, folds: np.ndarray, least: int) -> int:
    """Return the number of roles with enough responses in some folds ([F] bool) for a vector."""
    return int((sums.fully_counts[:, folds].sum(axis=1) >= least).sum())
