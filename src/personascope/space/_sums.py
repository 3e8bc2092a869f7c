"""The input of `build_space`: sums of pooled activations per role, score bucket and fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

Bucket = Literal["fully", "plain", "somewhat", "other"]
"""Bucket of a response: score 3 and played, score 3 and not played, score 2, and score 0-1. Without a judge
every response of a role counts as score 3, and without role information every 3 counts as played."""

BUCKETS: tuple[Bucket, ...] = ("fully", "plain", "somewhat", "other")


@dataclass(frozen=True, slots=True)
class FoldDesign:
    """Meaning of the folds, if they are not random parts of each role's responses.

    Attributes:
        questions: Block of questions of each fold, the same for every role and the default.
        prompts: Slot of the system prompt of each fold among a role's prompts.
    """

    questions: tuple[int, ...]
    prompts: tuple[int, ...]


class FoldSums(Protocol):
    """Protocol of float32 sums of pooled response activations, read one layer at a time.

    The rollouts of every role and of the default are divided into ``n_folds`` folds, which the statistics
    resample. A mean is a sum divided by its count.
    """

    @property
    def fold_design(self) -> FoldDesign | None:
        """Meaning of the folds; None if they are random parts of each role's responses."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """Sorted role names, without the default."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        ...

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        ...

    def counts(self, bucket: Bucket) -> Int64[np.ndarray, "roles folds"]:
        """Return the number of responses in each sum of a bucket."""
        ...

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """Return the number of responses in each sum of the default."""
        ...

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Return the sums of one bucket at one layer."""
        ...

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Return the sums of the default at one layer."""
        ...
