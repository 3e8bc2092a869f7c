"""What the space room reads: sums of pooled activations per role, score bucket and fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int64

Bucket = Literal["fully", "plain", "somewhat", "other"]
"""Judge score 3 and played, 3 and not played, 2, and 0-1. Without a judge every response of a role has a 3;
without a check of whether it played, every 3 counts as played."""

BUCKETS: tuple[Bucket, ...] = ("fully", "plain", "somewhat", "other")


@dataclass(frozen=True, slots=True)
class FoldDesign:
    """What the folds stand for, where they are more than random parts of each role's responses.

    Attributes:
        questions: For each fold, the block of questions that its responses answer: the same block for
            every role and for the default.
        prompts: For each fold, the place among a role's system prompts of the one that it was made under.
    """

    questions: tuple[int, ...]
    prompts: tuple[int, ...]


class FoldSums(Protocol):
    """Float32 sums of pooled response activations, read one layer at a time.

    The rollouts of every role and of the default are dealt into ``n_folds`` folds; the statistics
    resample folds. A mean is a sum divided by its count.
    """

    @property
    def fold_design(self) -> FoldDesign | None:
        """What the folds stand for; None where they are random parts of each role's responses."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """Role names, sorted; the default is not among them."""
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
        """Responses behind each sum of a bucket."""
        ...

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """Responses behind each sum of the default."""
        ...

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Sums of one bucket at one layer."""
        ...

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Sums of the default at one layer."""
        ...
