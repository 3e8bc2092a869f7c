"""The whole analysis of user messages in one call: predictions of both targets, and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from personascope.dynamics._conversation import DriftRun
from personascope.dynamics.causes._clusters import Clusters, cluster_messages
from personascope.dynamics.causes._messages import Encoder, Group, embed_messages, messages_of
from personascope.dynamics.causes._prediction import Prediction, Target, predict_from_messages
from personascope.judge import Embedder
from personascope.stats import json_values


@dataclass(frozen=True, slots=True, eq=False)
class Causes:
    """How the user's messages relate to the positions of the replies.

    Attributes:
        embedding: Name of the embedding model.
        layer: Layer at which positions are read.
        predictions: Predictions of position and change with held-out topics, then with held-out dialogues.
        clusters: Clusters of messages, by mean change.
    """

    embedding: str
    layer: int
    predictions: tuple[Prediction, ...]
    clusters: Clusters

    def prediction(self, target: Target, group: Group = "topic") -> Prediction:
        """Return the prediction of a target with the given held-out group."""
        return next(one for one in self.predictions if (one.target, one.group) == (target, group))

    def record(self, *, rows: bool = True) -> dict[str, Any]:
        """Return the result as JSON values, with each row's target and prediction if ``rows`` is True."""
        return json_values(
            {
                "embedding": self.embedding,
                "layer": self.layer,
                "predictions": [one.record(rows=rows) for one in self.predictions],
                "clusters": self.clusters.record(),
            }
        )


def find_causes(
    run: DriftRun,
    encoder: Encoder | None = None,
    *,
    layer: int | None = None,
    folds: int = 5,
    shuffles: int = 100,
    n_boot: int = 2000,
    seed: int = 0,
) -> Causes:
    """Predict position and change from the user's messages, and cluster the messages (section 4).

    Args:
        run: Simulated or replayed conversations.
        encoder: Embedding model of the messages; ``Embedder()`` by default, ``Embedder("org/model")`` for
            another.
        layer: Layer at which positions are read; the run's layer by default.
        folds: Number of outer folds, and of inner folds.
        shuffles: Number of repetitions of the regressions on shuffled targets.
        n_boot: Number of bootstrap draws.
        seed: Random seed.

    Raises:
        DynamicsError: If the run is too small, or scikit-learn is missing.
        JudgeError: If the embedding model cannot be used.
    """
    reader = Embedder() if encoder is None else encoder
    messages = messages_of(run, layer)
    vectors = embed_messages(messages, reader)
    groups: tuple[Group, ...] = ("topic", "dialogue")
    predictions = tuple(
        predict_from_messages(
            messages, vectors, target, group=group, folds=folds, shuffles=shuffles, n_boot=n_boot, seed=seed
        )
        for group in groups
        for target in get_args(Target)
    )
    clusters = cluster_messages(messages, vectors, n_boot=n_boot, seed=seed)
    return Causes(reader.name, messages.layer, predictions, clusters)
