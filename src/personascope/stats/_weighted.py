"""Percentiles of a sample whose members stand for different numbers of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def weighted_percentiles(
    values: Float[np.ndarray, "n L"], weights: Float[np.ndarray, "n"], percentiles: Sequence[float]
) -> Float[np.ndarray, "L P"]:
    """Return percentiles of every column, with a weight for each row.

    A row lies at the middle of its share of the weight, and values between two rows are interpolated.

    Args:
        values: Sample.
        weights: Positive weight of each row.
        percentiles: Percentiles from 0 to 100.
    """
    wanted = np.asarray(percentiles, np.float64) / 100
    found = np.empty((values.shape[1], len(wanted)))
    for column, row in enumerate(values.T):
        order = np.argsort(row, kind="stable")
        share = weights[order] / weights.sum()
        found[column] = np.interp(wanted, np.cumsum(share) - share / 2, row[order])
    return found
