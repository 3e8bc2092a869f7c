"""Label offline by a small classifier on sentence embeddings and counted signs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personascope.errors import JudgeError, UsageError
from personascope.judge._batching import Batcher
from personascope.judge._contract import JudgeItem, JudgeStats, Verdict
from personascope.judge._rubric import Rubric
from personascope.judge._rubrics import NONSENSICAL, RUBRICS
from personascope.judge.classifier._embedder import EMBEDDING, Embedder, find_embedding
from personascope.judge.classifier._features import feature_matrix, text_of
from personascope.judge.classifier._weights import PROBE, WEIGHTS, LabelWeights, trained
from personascope.text import nonsense

SURE = 0.98
"""Probability of "nonsensical" for a text that the rule detects; the classifier shares out the rest."""


class EmbeddingJudge:
    """Label by a multinomial logistic regression, trained on answers that readers labelled.

    A text that `nonsense` detects by its form alone is nonsensical where the rubric has that label; the
    classifier decides everything else. Items that wait at the same time are embedded together. The same items
    give the same labels. Probabilities agree to rounding, since the padding of a batch changes the last
    digits of an embedding.

    Args:
        weights: Folder with a ``RUBRIC.safetensors`` for each rubric.
        embedding: Name of the embedding model; the weights must have been trained on it.
        batch_size: Maximum number of items per call.
        device: Torch device of the embedding model.

    Raises:
        UsageError: If ``batch_size`` is below 1.
    """

    def __init__(
        self,
        *,
        weights: Path = WEIGHTS,
        embedding: str = EMBEDDING,
        batch_size: int = 64,
        device: str = "cpu",
    ) -> None:
        """Store the settings; nothing is loaded yet."""
        if batch_size < 1:
            raise UsageError(f"the judge's batch_size is {batch_size}", hint="give 1 or more")
        self._folder = weights
        self._embedder = Embedder(embedding, device=device)
        self._batcher = Batcher(self.score_batch, batch_size)
        self._lock = threading.Lock()
        self._weights: dict[str, LabelWeights] = {}
        self._errors: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Name of the offline judge, ``rules``, whichever part of it answers."""
        return "rules"

    @property
    def stats(self) -> JudgeStats:
        """Number of items that could not be scored, by kind; nothing else is counted."""
        return JudgeStats(errors=dict(self._errors))

    async def score(self, item: JudgeItem) -> Verdict:
        """Label one item, in one call with the others that wait at the same time.

        Raises:
            JudgeError: If the item's rubric has no weights, or the embedding model cannot be used.
        """
        return await self._batcher.score(item)

    async def aclose(self) -> None:
        """Release the event loop that the judge was used in; what was loaded stays."""
        self._batcher.forget()

    def score_batch(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Label items of any rubrics, in order.

        Raises:
            JudgeError: If a rubric has no weights, or the embedding model cannot be used.
        """
        by_rubric: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            by_rubric.setdefault(item.rubric.digest, []).append(index)
        verdicts: dict[int, Verdict] = {}
        with self._lock:
            for indices in by_rubric.values():
                labelled = self._of_one_rubric([items[index] for index in indices])
                verdicts.update(zip(indices, labelled, strict=True))
        return [verdicts[index] for index in range(len(items))]

    def _of_one_rubric(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        weights = self._weights_of(items[0].rubric)
        shares = weights.probabilities(feature_matrix(items, self._embedder.encode, weights.blocks))
        return [self._verdict(item, row) for item, row in zip(items, shares, strict=True)]

    def _verdict(self, item: JudgeItem, shares: NDArray[np.float64]) -> Verdict:
        why = broken(item)
        if why is not None:
            shares = overruled(shares, item.rubric)
        elif not item.response.strip():
            # The rubric has no label for an empty text, and the classifier would invent one.
            self._errors["empty"] += 1
            return Verdict(item.id, None, "the response is empty", self.name)
        best = int(shares.argmax())
        return Verdict(
            item.id,
            best,
            why or f"probability {shares[best]:.2f}",
            self.name,
            probabilities=tuple(float(share) for share in shares),
            label=item.rubric.labels[best],
        )

    def _weights_of(self, rubric: Rubric) -> LabelWeights:
        known = self._weights.get(rubric.digest)
        if known is None:
            path = self._folder / f"{rubric.name}.safetensors"
            if not path.is_file():
                there = ", ".join(trained(list(RUBRICS), self._folder)) or "none"
                raise JudgeError(
                    f"the offline judge has no trained weights for the rubric {rubric.name!r}; "
                    f"it has them for: {there}",
                    hint="judge with openai:MODEL@BASE_URL or local:MODEL, or train it with "
                    "`python benchmarks/label_judges.py`",
                )
            known = LabelWeights.load(path)
            known.check(rubric)
            if known.embedding != self._embedder.name:
                raise JudgeError(
                    f"the weights of the rubric {rubric.name!r} read the embedding model {known.embedding}, "
                    f"not {self._embedder.name}",
                    hint=f"leave the embedding model out, or give {known.embedding}",
                )
            known.check_embedding(self._embedder.encode([PROBE])[0], find_embedding(self._embedder.name))
            self._weights[rubric.digest] = known
        return known


def broken(item: JudgeItem) -> str | None:
    """Return why a text is nonsensical by rule, or None if it is not or its rubric has no such label."""
    if NONSENSICAL not in item.rubric.labels:
        return None
    return nonsense(text_of(item) if item.response.strip() else "")


def overruled(shares: NDArray[np.float64], rubric: Rubric) -> NDArray[np.float64]:
    """Return label probabilities, [labels], with `SURE` on "nonsensical" and the rest shared out."""
    at = rubric.index(NONSENSICAL)
    rest = np.delete(shares, at)
    total = float(rest.sum())
    others = rest / total if total > 0 else np.full(rest.shape, 1 / len(rest))
    return np.insert(others * (1 - SURE), at, SURE)
