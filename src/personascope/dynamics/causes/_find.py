"""All that is asked of the user's messages, in one go: predictions of both targets, and clusters."""

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
    """What the user's messages tell of the replies to them.

    Attributes:
        embedding: Name of the embedding model.
        layer: Where positions are read.
        predictions: Of position and change, topics held out; then both again, dialogues held out.
        clusters: Kinds of messages, by mean change.
    """

    embedding: str
    layer: int
    predictions: tuple[Prediction, ...]
    clusters: Clusters

    def prediction(self, target: Target, group: Group = "topic") -> Prediction:
        """Return one of the predictions."""
        return next(one for one in self.predictions if (one.target, one.group) == (target, group))

    def record(self, *, rows: bool = True) -> dict[str, Any]:
        """Return all of it as JSON, with each row's target and prediction unless ``rows`` is False."""
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
        encoder: Embeds the messages; ``Embedder()`` by default, ``Embedder("org/model")`` for another model.
        layer: Where positions are read; the run's layer by default.
        folds: Outer and inner folds.
        shuffles: Times that the regressions are repeated on shuffled targets.
        n_boot: Bootstrap draws.
        seed: Seed of everything that is drawn.

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
