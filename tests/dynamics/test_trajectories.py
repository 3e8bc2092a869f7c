"""Trajectories and contrasts: known effects found, nothing dropped in silence, levels held."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.dynamics.trajectories import compare_replays, contrasts, trajectories
from personascope.dynamics.trajectories._contrasts import _slope
from personascope.errors import DynamicsError
from trajectory_case import dialogue, grid, run

TURNS = 8


def planted(effect: float, *, topic_sd: float = 0.1, noise: float = 0.05, seed: int = 0):
    """Positions that fall by ``effect`` a turn in therapy alone, with topics that differ."""
    rng = np.random.default_rng(seed)
    topics: dict[tuple[str, int], float] = {}

    def path(domain, _persona, topic):
        level = topics.setdefault((domain, topic), float(rng.normal(0.9, topic_sd)))
        slope = -effect if domain == "therapy" else 0.0
        return level + slope * np.arange(TURNS) + rng.normal(0, noise, TURNS)

    return path


def test_means_and_changes_are_those_of_the_replies() -> None:
    made = run(
        [dialogue("coding", p, t, [0.5 + 0.1 * t, 0.4, 0.2]) for p in range(2) for t in range(5)], turns=3
    )
    found = trajectories(made)
    (one,) = found.domains
    assert [turn.turn for turn in one.turns] == [0, 1, 2]
    assert [turn.position.estimate for turn in one.turns] == pytest.approx([0.7, 0.4, 0.2])
    assert all((t.position.n, t.position.n_clusters) == (10, 5) for t in one.turns)
    assert one.change.estimate == pytest.approx(0.2 - 0.7)
    # Two dialogues on each topic say no more than one: the interval is that of the five topics.
    alone = trajectories(run(made.dialogues[:5]), min_dialogues=5).domains[0].turns[0].position
    assert one.turns[0].position.low == pytest.approx(alone.low)
    assert found.notes() == ()


def test_another_layer_is_read_in_its_own_units() -> None:
    made = run([dialogue("coding", p, p, [0.5, 0.3]) for p in range(10)])
    for layer in (0, 1, 2):
        (one,) = trajectories(made, layer=layer).domains
        assert one.turns[1].position.estimate == pytest.approx(0.3)


def test_dropped_turns_empty_replies_and_unfinished_dialogues_are_said() -> None:
    made = run(
        [dialogue("therapy", 0, t, [1.0, 0.9, 0.8] if t < 9 else [1.0, math.nan]) for t in range(12)]
        + [dialogue("therapy", 1, 0, [1.0], ended=None)]
    )
    found = trajectories(made)
    (one,) = found.domains
    assert [turn.turn for turn in one.turns] == [0]
    assert one.dropped == ((1, 9), (2, 9))
    assert one.turns[0].position.n == 13 and one.change.n == 9
    assert (one.n_dialogues, one.unfinished, one.empty) == (13, 1, 3)
    notes = " ".join(found.notes())
    assert "fewer than 10 conversations reach them: 2 (9), 3 (9)" in notes
    assert "empty replies left out: 3" in notes and "unfinished conversations among them: 1" in notes
    kept = trajectories(made, min_dialogues=9).domains[0]
    assert [turn.turn for turn in kept.turns] == [0, 1, 2] and not kept.dropped


def test_an_interval_covers_the_mean_of_the_topics() -> None:
    covered = 0
    for seed in range(60):
        made = grid(planted(0.0, topic_sd=0.3, seed=seed), ("coding",), personas=4, topics=10)
        at = trajectories(made, n_boot=300).domains[0].turns[2].position
        covered += at.low <= 0.9 <= at.high
    assert covered >= 0.85 * 60


def test_a_planted_difference_is_found_by_both_tests() -> None:
    (found,) = contrasts(
        grid(planted(0.05, topic_sd=0.05, seed=1)), [("coding", "therapy")], permutations=1999
    )
    tests = {test.measure: test for test in found.tests}
    assert list(tests) == ["mean", "last", "change", "slope"]
    for measure, truth in {"mean": 0.05 * 4, "last": 0.05 * 7, "change": 0.05 * 7, "slope": 0.05}.items():
        test = tests[measure]
        assert test.estimate == pytest.approx(truth, abs=0.1)
        assert test.low <= truth <= test.high and test.low > 0
        assert test.p_value == pytest.approx(1 / 2000, abs=0.01)
        assert test.null_low < 0 < test.null_high < test.estimate
        assert (test.n, test.n_topics, test.left_out) == ((36, 36), (12, 12), 0)
        assert test.paired is not None and test.paired.n == 12
        # As many dialogues on every topic: both differences are the same.
        assert test.paired.estimate == pytest.approx(test.estimate)
        assert test.paired.p_value < 0.01
    (back,) = contrasts(
        grid(planted(0.05, topic_sd=0.05, seed=1)), [("therapy", "coding")], permutations=1999
    )
    assert back.tests[0].estimate == pytest.approx(-found.tests[0].estimate)
    assert (back.tests[0].low, back.tests[0].high) == pytest.approx((-tests["mean"].high, -tests["mean"].low))


def test_under_the_null_p_values_are_about_uniform_and_topics_count_once() -> None:
    p_values, paired, single = [], [], []
    for seed in range(80):
        made = grid(planted(0.0, topic_sd=0.3, seed=seed), personas=4, topics=8)
        test = contrasts(made, measures=["mean"], permutations=199, n_boot=50, seed=seed)[0].tests[0]
        p_values.append(test.p_value)
        assert test.paired is not None
        paired.append(test.paired.p_value)
        # Dialogues with topics of their own: what the test would say if it took them for independent.
        apart = [
            dialogue(d.domain, 0, int(d.persona[1:]) * 100 + d.number, made.positions(d))
            for d in made.dialogues
        ]
        alone = contrasts(run(apart), measures=["mean"], permutations=199, n_boot=50, seed=seed)[0]
        single.append(alone.tests[0].p_value)
    for values in (p_values, paired):
        assert 0.01 * 80 <= np.sum(np.array(values) <= 0.1) <= 0.2 * 80
        assert 0.35 <= np.mean(values) <= 0.65
    assert np.mean(np.array(single) <= 0.1) > 0.25


def test_the_order_of_the_dialogues_changes_nothing() -> None:
    made = grid(planted(0.02), ("coding", "therapy", "writing"))
    turned = run(made.dialogues[::-1])
    pairs = [("coding", "therapy"), ("writing", "coding")]
    one, other = (contrasts(r, pairs, permutations=199, n_boot=200) for r in (made, turned))
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a.tests, b.tests, strict=True):
            assert x.p_value == y.p_value
            assert (x.estimate, x.low, x.null_high) == pytest.approx((y.estimate, y.low, y.null_high))
    assert [(c.first, c.second) for c in contrasts(made, permutations=9, n_boot=9)] == [
        ("coding", "therapy"),
        ("coding", "writing"),
        ("therapy", "writing"),
    ]


def test_dialogues_without_two_replies_are_left_out_and_counted() -> None:
    made = run(
        [dialogue(d, 0, t, [1.0, 0.5]) for d in ("coding", "therapy") for t in range(4)]
        + [dialogue("coding", 1, 0, [1.0]), dialogue("therapy", 1, 9, [math.nan, 0.5])]
    )
    tests = {t.measure: t for t in contrasts(made, permutations=99)[0].tests}
    assert tests["mean"].left_out == 1 and tests["change"].left_out == 2
    assert tests["mean"].n == (4, 5) and tests["mean"].paired is not None and tests["mean"].paired.n == 4
    apart = run([dialogue("a", 0, 0, [1.0, 0.5]), dialogue("b", 0, 7, [1.0, 0.5])])
    test = contrasts(apart, permutations=99)[0].tests[0]
    assert test.paired is None and test.p_value == 1.0


@given(st.lists(st.floats(-2, 2) | st.just(math.nan), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_slope_is_least_squares_over_the_replies_there_are(path) -> None:
    at = np.flatnonzero(np.isfinite(path))
    found = _slope(np.array(path))
    if len(at) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.polyfit(at, np.array(path)[at], 1)[0], abs=1e-9)


def test_what_makes_no_sense_is_refused_by_name() -> None:
    made = grid(planted(0.0), topics=2)
    with pytest.raises(DynamicsError, match="'cooking' is not in the run") as caught:
        contrasts(made, [("coding", "cooking")])
    assert "coding, therapy" in caught.value.hint
    with pytest.raises(DynamicsError, match="'steepness' is no measure"):
        contrasts(made, measures=["steepness"])
    with pytest.raises(DynamicsError, match="'b' has two replies"):
        contrasts(run([dialogue("a", 0, 0, [1.0, 0.5]), dialogue("b", 0, 0, [1.0])]))
    with pytest.raises(DynamicsError, match="has no dialogue"):
        trajectories(run([]))
    with pytest.raises(DynamicsError, match="need 0 dialogues"):
        trajectories(made, min_dialogues=0)


def test_records_are_json_without_nan() -> None:
    made = grid(planted(0.01), topics=1, personas=1)
    for record in (
        trajectories(made, min_dialogues=1).record(),
        contrasts(made, permutations=9)[0].record(),
        compare_replays(made, made, min_dialogues=1).record(),
    ):
        text = json.dumps(record, allow_nan=False)
        assert "null" in text


def replayed(gain: float, fired: int):
    """Ten conversations, and the same with replies that lie higher and caps that fired."""
    rng = np.random.default_rng(3)
    paths = [1 - 0.1 * np.arange(4) + rng.normal(0, 0.05, 4) for _ in range(10)]
    first = [dialogue("therapy", 0, t, path) for t, path in enumerate(paths)]
    second = [
        dialogue("therapy", 0, t, path + gain, plan_tokens=10, capped=[fired * turn for turn in range(4)])
        for t, path in enumerate(paths)
    ]
    return first, second


def test_replays_are_compared_conversation_by_conversation() -> None:
    first, second = replayed(0.2, 2)
    found = compare_replays(run(first), run([*second[::-1], dialogue("coding", 0, 0, [1.0])]))
    (pair,) = found.pairs
    assert found.missing == ("coding/p0/topic-0",) and pair.n_dialogues == 10
    for number, turn in enumerate(pair.turns):
        assert turn.difference.estimate == pytest.approx(0.2)
        assert turn.planned.estimate - turn.plain.estimate == pytest.approx(0.2)
        assert turn.difference.high - turn.difference.low < 1e-9 < turn.plain.high - turn.plain.low
        assert turn.fired == pytest.approx(0.2 * number)
    single = compare_replays(run(first), run(second), by="dialogue")
    assert [one.name for one in single.pairs] == [d.id for d in first]
    assert single.pairs[3].turns[2].plain.estimate == pytest.approx(run(first).positions(first[3])[2])
    short = compare_replays(run(first[:9]), run(second)).pairs[0]
    assert not short.turns and short.dropped == ((0, 9), (1, 9), (2, 9), (3, 9))
    assert compare_replays(run(first), run(first)).pairs[0].turns[0].fired is None


def test_runs_that_are_no_replay_of_each_other_are_refused() -> None:
    first, _ = replayed(0.0, 0)
    with pytest.raises(DynamicsError, match="no dialogue of"):
        compare_replays(run(first), run([dialogue("coding", 0, 0, [1.0])]))
    other = dialogue("therapy", 0, 0, [1.0, 1.0], ["message 0", "something else"])
    with pytest.raises(DynamicsError, match="message 2 of therapy/p0/topic-0 is 'message 1' in one run"):
        compare_replays(run(first), run([other]))
