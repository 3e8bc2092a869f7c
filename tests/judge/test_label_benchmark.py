"""Training and measuring the offline judge of labels, and the figures that the repository publishes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_case import FakeModel, item, readings, write

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import label_answers
import label_judges

from personascope.errors import JudgeError
from personascope.judge import (
    RUBRICS,
    SUSCEPTIBILITY,
    WEIGHTS,
    Embedder,
    EmbeddingJudge,
    LabelWeights,
    Rubric,
)
from personascope.judge.classifier import _embedder as embedder_module

LABELLED = [rubric for rubric in RUBRICS.values() if rubric.key == "label"]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(embedder_module, "_load", lambda _place, _device: fake)
    monkeypatch.setattr(label_judges, "DRAWS", 200)
    return fake


def trained(folder: Path, rows: list[dict[str, str]]) -> LabelWeights:
    write(folder / "labels" / "susceptibility.jsonl", rows)
    label_judges.main(labels=folder / "labels", weights=folder / "data", out=folder / "page.md")
    return LabelWeights.load(folder / "data" / "susceptibility.safetensors")


def test_trains_a_judge_that_labels_what_it_never_saw(model: FakeModel, tmp_path: Path) -> None:
    weights = trained(tmp_path, readings())
    held = weights.facts["held_out"]
    assert held["answers"] == 36 and weights.facts["train"]["answers"] == 36
    assert held["groups"] == 4 and held["groups_shared_with_training"] == 0
    assert held["accuracy"] >= 0.9 and held["kappa"] >= 0.85
    assert held["majority_accuracy"] < 0.3
    assert held["kappa_low"] <= held["kappa"] <= held["kappa_high"]
    judge = EmbeddingJudge(weights=tmp_path / "data")
    rows = [row for row in readings() if row["half"] == "held_out"]
    verdicts = judge.score_batch([item(row["response"], role=row["role"], id=row["id"]) for row in rows])
    same = [verdict.label == row["label"] for verdict, row in zip(verdicts, rows, strict=True)]
    assert np.mean(same) == held["accuracy"]
    assert np.trace(np.array(held["table"])) == sum(same)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page == label_judges.page(tmp_path / "data")
    assert f"| judge and readers | 36 | {held['accuracy']:.3f} |" in page
    assert model.calls


def test_the_same_answers_train_the_same_judge(model: FakeModel, tmp_path: Path) -> None:
    one = trained(tmp_path / "a", readings())
    two = trained(tmp_path / "b", readings())
    assert one.facts == two.facts
    assert (tmp_path / "a/data/susceptibility.safetensors").read_bytes() == (
        tmp_path / "b/data/susceptibility.safetensors"
    ).read_bytes()
    assert model.calls
    assert np.array_equal(one.weight, two.weight)


def test_a_label_without_answers_is_never_given(model: FakeModel, tmp_path: Path) -> None:
    weights = trained(tmp_path, readings())
    unseen = SUSCEPTIBILITY.index("nonhuman")
    judge = EmbeddingJudge(weights=tmp_path / "data")
    for verdict in judge.score_batch([item(text) for text in ("I am Unit-7.", "Bread.", "The sea.")]):
        assert verdict.probabilities is not None and verdict.probabilities[unseen] < 1e-3
    assert not weights.weight[unseen].any()
    assert model.calls


def test_the_held_out_half_chooses_nothing(model: FakeModel, tmp_path: Path) -> None:
    rows = readings()
    one = trained(tmp_path / "a", rows)
    flipped = [{**row, "label": "human"} if row["half"] == "held_out" else row for row in rows]
    two = trained(tmp_path / "b", flipped)
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.bias, two.bias)
    assert one.facts["choice"] == two.facts["choice"]
    assert two.facts["held_out"]["accuracy"] < one.facts["held_out"]["accuracy"]
    assert model.calls


def test_no_role_is_on_both_sides_of_a_fold(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", readings())
    answers = label_answers.read_answers(tmp_path / "x.jsonl", SUSCEPTIBILITY)
    labels = np.array([SUSCEPTIBILITY.index(answer.label) for answer in answers])
    folds = label_judges.folds_of(answers, labels)
    assert len(folds) == label_judges.FOLDS
    left_out = [place for _, outside in folds for place in outside]
    assert sorted(left_out) == list(range(len(answers)))
    for inside, outside in folds:
        groups = [{answers[place].group for place in places} for places in (inside, outside)]
        assert not groups[0] & groups[1]


def test_fewer_columns_give_the_same_fit() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(30, 80)).astype(np.float32) * 3 + 1
    labels = np.arange(30) % 3
    choice = label_judges.Choice(("hand",), 0.3, 0.1, None)
    weight, bias = label_judges.Ready.of(features, np.full(80, 0.5)).fit(labels, choice, 3)
    scaled = (features - features.mean(0)) / features.std(0) * 0.5
    whole = label_judges.LogisticRegression(C=0.1, max_iter=3000, tol=1e-8).fit(scaled, labels)
    got = label_judges.softmax(features @ weight.T + bias)
    assert got == pytest.approx(whole.predict_proba(scaled), abs=2e-3)


def test_two_labels_are_told_apart() -> None:
    features = np.array([[0.0], [0.1], [1.0], [1.1]], dtype=np.float32)
    choice = label_judges.Choice(("hand",), 0.3, 10.0, None)
    weight, bias = label_judges.Ready.of(features, np.ones(1)).fit(np.array([2, 2, 0, 0]), choice, 3)
    assert label_judges.softmax(features @ weight.T + bias).argmax(1).tolist() == [2, 2, 0, 0]


def test_readings_are_settled_by_most_then_by_the_last(tmp_path: Path) -> None:
    base = readings()[0]
    votes = {"x": ("human", "other", "human"), "y": ("human", "other"), "z": ("other",)}
    rows = [
        {**base, "id": id, "label": label, "reader": f"r{n}"}
        for id, labels in votes.items()
        for n, label in enumerate(labels)
    ]
    write(tmp_path / "x.jsonl", rows)
    answers = label_answers.read_answers(tmp_path / "x.jsonl", SUSCEPTIBILITY)
    assert [answer.label for answer in answers] == ["human", "other", "other"]
    found = label_answers.agreement(answers, SUSCEPTIBILITY)
    assert (found["answers"], found["accuracy"]) == (2, 0.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "person"}, "line 2: label 'person'"),
        ({"half": "test"}, "half 'test'"),
        ({"reader": None}, "line 2: no reader"),
        ({"id": "grader/assistant/0", "response": "Else."}, "differs from its earlier line"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    rows = readings()[:2]
    rows[1] = {key: value for key, value in {**rows[1], **change}.items() if value is not None}
    write(tmp_path / "x.jsonl", rows)
    with pytest.raises(JudgeError, match=says):
        label_answers.read_answers(tmp_path / "x.jsonl", SUSCEPTIBILITY)


def test_too_few_answers_are_refused(model: FakeModel, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="no labelled answers for any rubric"):
        label_judges.main(labels=tmp_path, weights=tmp_path / "d", out=tmp_path / "p.md")
    write(tmp_path / "susceptibility.jsonl", readings())
    with pytest.raises(JudgeError, match="no labelled answers for traits"):
        label_judges.main(["traits"], labels=tmp_path, weights=tmp_path / "d", out=tmp_path / "p.md")
    write(tmp_path / "susceptibility.jsonl", [row for row in readings() if row["label"] == "human"])
    with pytest.raises(JudgeError, match="'susceptibility' have 8 to train on and 8 held out"):
        label_judges.main(labels=tmp_path, weights=tmp_path / "d", out=tmp_path / "p.md")
    assert not (tmp_path / "p.md").exists() and not list((tmp_path / "d").iterdir())
    assert not model.calls


def test_kappa() -> None:
    same = np.array([0, 1, 2, 1])
    assert label_answers.kappa_of(same, same, 3) == 1.0
    assert label_answers.kappa_of(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2) == 0.0
    assert np.isnan(label_answers.kappa_of(np.zeros(3, int), np.zeros(3, int), 2))


@pytest.mark.parametrize("rubric", LABELLED, ids=lambda rubric: rubric.name)
def test_what_is_published_is_what_is_there(rubric: Rubric) -> None:
    """Weights, labelled answers and page belong together; without weights, the judge says so."""
    shipped, answers = WEIGHTS / f"{rubric.name}.safetensors", label_judges.LABELS / f"{rubric.name}.jsonl"
    if not shipped.is_file():
        assert not answers.is_file(), f"{answers.name} was labelled, but nothing was trained on it"
        with pytest.raises(JudgeError, match=f"no trained weights for the rubric {rubric.name!r}"):
            EmbeddingJudge().score_batch([item("Hello.", rubric)])
        return
    weights = LabelWeights.load(shipped)
    weights.check(rubric)
    read = label_answers.read_answers(answers, rubric)
    held = [answer for answer in read if answer.half == "held_out"]
    assert weights.facts["training_digest"] == label_answers.digest_of([a for a in read if a.half == "train"])
    assert weights.facts["held_out_digest"] == label_answers.digest_of(held)
    judged = label_judges.judged_by(weights, [answer.item for answer in held], rubric, Embedder())
    same = np.mean([rubric.labels[k] == answer.label for k, answer in zip(judged, held, strict=True)])
    # Another processor may round an embedding otherwise, and move an answer that lies on a border.
    assert same == pytest.approx(weights.facts["held_out"]["accuracy"], abs=0.01)
    assert label_judges.PAGE.read_text(encoding="utf-8") == label_judges.page()
    assert json.dumps(dict(weights.facts))
