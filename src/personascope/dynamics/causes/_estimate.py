"""Estimate of the analysis of user messages, from a few of them; nothing is written."""

from __future__ import annotations

import time

import numpy as np

from personascope.dynamics._conversation import DriftRun
from personascope.dynamics.causes._clusters import cluster_messages
from personascope.dynamics.causes._messages import Encoder, messages_of
from personascope.dynamics.causes._prediction import predict_from_messages
from personascope.judge import Embedder
from personascope.runs import WorkStep, spread

PREDICTIONS = 4
"""Predictions of `find_causes`: of two targets, with two kinds of groups held out."""


def estimate_causes(
    run: DriftRun,
    encoder: Encoder | None = None,
    *,
    layer: int | None = None,
    shuffles: int = 100,
    n_boot: int = 2000,
    seed: int = 0,
    probe: int = 32,
) -> tuple[WorkStep, WorkStep]:
    """Estimate `find_causes`: the embedding of messages, and the regressions and clusters on them.

    The regressions are timed on random vectors of the embeddings' width, with few shuffles and with more.
    What a shuffle adds is the same for each.

    Args:
        run: Simulated or replayed conversations.
        encoder: Embedding model of the messages; ``Embedder()`` by default.
        layer: Layer at which positions are read; the run's layer by default.
        shuffles: Number of repetitions of the regressions on shuffled targets.
        n_boot: Number of bootstrap draws.
        seed: Random seed.
        probe: Number of messages to embed.

    Raises:
        DynamicsError: If the run is too small, or scikit-learn is missing.
        JudgeError: If the embedding model cannot be used.
    """
    reader = Embedder() if encoder is None else encoder
    messages = messages_of(run, layer)
    # The same message is embedded once.
    texts = list(dict.fromkeys(messages.texts))
    reader.encode(["loads the model"])
    begun = time.monotonic()
    width = reader.encode([texts[place] for place in spread(len(texts), probe)]).shape[1]
    embedding = (time.monotonic() - begun) / min(probe, len(texts)) * len(texts)
    vectors = np.random.default_rng(seed).standard_normal((len(messages), width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    few, more = min(2, shuffles), min(12, shuffles)
    times: list[float] = []
    for number in (few, more):
        begun = time.monotonic()
        predict_from_messages(messages, vectors, "position", shuffles=number, n_boot=n_boot, seed=seed)
        times.append(time.monotonic() - begun)
    each = max(0.0, times[1] - times[0]) / max(more - few, 1)
    begun = time.monotonic()
    cluster_messages(messages, vectors, n_boot=n_boot, seed=seed)
    clusters = time.monotonic() - begun
    fitting = PREDICTIONS * (times[0] + each * (shuffles - few)) + clusters
    return (
        WorkStep("embed messages", passes=len(texts), seconds=embedding),
        WorkStep("regressions", seconds=fitting),
    )
