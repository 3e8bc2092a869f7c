"""Intervals cover, tests hold their level, clusters widen, and the limits stay sane at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.errors import EvaluationError
from personascope.stats._clusters import EXACT_CLUSTERS, N_FLIPS, effective_size, group
from personascope.stats._intervals import (
    against_draws,
    mean_interval,
    paired_difference,
    pareto_front,
    share_interval,
    wilson,
)


def clustered(rng, n_groups, size, share, correlation):
    """Beta-binomial hits: each cluster has its own share, with the given correlation within it."""
    scale = (1 - correlation) / correlation
    shares = rng.beta(share * scale, (1 - share) * scale, size=n_groups)
    return (rng.random((n_groups, size)) < shares[:, None]).ravel(), np.repeat(np.arange(n_groups), size)


def test_wilson_of_known_cases() -> None:
    # Published values of the score interval: 0 of 10, 1 of 10, 5 of 10.
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10)[1] == 1.0 and wilson(0, 0) == (0.0, 1.0)


def test_independent_items_have_wilsons_interval() -> None:
    found = share_interval([True] * 3 + [False] * 7)
    assert (found.estimate, found.n, found.n_clusters) == (0.3, 10, 10)
    assert (found.low, found.high) == wilson(3, 10)


@pytest.mark.parametrize(
    ("share", "correlation", "n_groups"), [(0.3, 0.3, 40), (0.02, 0.3, 50), (0.5, 0.1, 8)]
)
def test_the_share_interval_covers_what_clusters_were_drawn_from(share, correlation, n_groups) -> None:
    rng = np.random.default_rng(1)
    covered, plain = 0, 0
    for _ in range(300):
        hits, names = clustered(rng, n_groups, 20, share, correlation)
        found = share_interval(hits, names, n_boot=400)
        covered += found.low <= share <= found.high
        low, high = wilson(hits.sum(), len(hits))
        plain += low <= share <= high
    assert covered >= 0.92 * 300
    # What the test is for: an interval that takes the answers for independent misses far more often.
    assert plain < 0.85 * 300


def test_the_mean_interval_covers_at_about_its_level() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        values = (rng.normal(size=(6, 1)) + rng.normal(size=(6, 5))).ravel()
        found = mean_interval(values, np.repeat(np.arange(6), 5), n_boot=400)
        covered += found.low <= 0 <= found.high
    assert 0.90 * 400 <= covered <= 0.985 * 400


def test_clusters_widen_the_interval() -> None:
    hits = np.tile([True, False], 20).repeat(10)
    names = np.arange(40).repeat(10)
    alone, together = share_interval(hits), share_interval(hits, names)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert (together.n, together.n_clusters) == (400, 40)
    values = hits.astype(float) * 3
    assert np.diff([*_limits(mean_interval(values, names))]) > 2.5 * np.diff(
        [*_limits(mean_interval(values))]
    )


def _limits(found):
    return found.low, found.high


@pytest.mark.parametrize("hit", [False, True])
def test_all_or_none_is_not_certainty(hit) -> None:
    names = np.arange(50).repeat(20)
    found = share_interval([hit] * 1000, names)
    assert found.estimate == float(hit)
    width = found.high - found.low
    # Wider than 1000 independent answers would be, narrower than 50 clusters of one answer each.
    assert np.diff(wilson(0, 1000)) < width < np.diff(wilson(0, 50))
    near = [hit] * 999 + [not hit]
    assert width / 2 < np.diff(_limits(share_interval(near, names))) < width * 2


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcde")), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_limits_hold_the_estimate_and_stay_shares_whatever_the_order(items) -> None:
    hits, names = [hit for hit, _ in items], [name for _, name in items]
    found = share_interval(hits, names, n_boot=100)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high
    back = share_interval(hits[::-1], names[::-1], n_boot=100)
    assert _limits(back) == pytest.approx(_limits(found), abs=1e-9)


def test_the_effective_size_of_known_cases() -> None:
    names = np.arange(100).repeat(10)
    rng = np.random.default_rng(3)
    same, free = rng.integers(2, size=100).repeat(10).astype(float), rng.integers(2, size=1000).astype(float)
    assert effective_size(same, group(names, 1000)) == pytest.approx(100, rel=0.1)
    assert effective_size(free, group(names, 1000)) == pytest.approx(1000, rel=0.2)
    assert effective_size(free, group(None, 1000)) == 1000


def test_without_items_or_with_one_cluster_nothing_is_claimed() -> None:
    nothing = share_interval([])
    assert math.isnan(nothing.estimate) and (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)
    assert math.isnan(mean_interval([2.0, 3.0], ["a", "a"]).low)
    one = share_interval([True, False, True, True], ["a"] * 4)
    assert one.low < wilson(3, 4)[0] and one.high > wilson(3, 4)[1]
    pair = paired_difference([1.0, 0.0], [0.0, 0.0], ["a", "a"])
    assert math.isnan(pair.low) and pair.p_value == 1.0


def test_a_true_null_gives_uniform_p_values() -> None:
    rng = np.random.default_rng(4)
    values = []
    for _ in range(400):
        shift = rng.normal(size=(12, 1))
        a, b = (shift + rng.normal(size=(12, 4)) for _ in range(2))
        values.append(paired_difference(a.ravel(), b.ravel(), np.arange(12).repeat(4), n_boot=20).p_value)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(values) <= level) == pytest.approx(level, abs=0.07)


def test_clusters_that_move_together_are_not_many_witnesses() -> None:
    rng = np.random.default_rng(5)
    below = {"clusters": 0, "items": 0}
    for _ in range(200):
        diff = rng.normal(size=10).repeat(10) + 0.1 * rng.normal(size=100)
        names = np.arange(10).repeat(10)
        below["clusters"] += paired_difference(diff, np.zeros(100), names, n_boot=20).p_value <= 0.05
        below["items"] += paired_difference(diff, np.zeros(100), n_boot=20).p_value <= 0.05
    assert below["clusters"] <= 0.09 * 200 < 0.4 * 200 <= below["items"]


def test_an_obvious_effect_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(6)
    without = rng.random(200) < 0.9
    with_plan = rng.random(200) < 0.2
    names = np.arange(40).repeat(5)
    found = paired_difference(with_plan, without, names)
    assert found.estimate == with_plan.mean() - without.mean()
    assert found.low < found.estimate < found.high < -0.5
    assert found.p_value == 1 / (N_FLIPS + 1)
    turned = paired_difference(without, with_plan, names)
    assert turned.estimate == -found.estimate and turned.p_value == pytest.approx(found.p_value, abs=1e-3)


def test_the_exact_test_counts_all_flips_and_never_gives_zero() -> None:
    # Five clusters that all rise: of 32 flips only two are as extreme.
    found = paired_difference([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5)
    assert found.p_value == 2 / 32
    # Sums 1, 1, 2: the flips with |sum| >= 2 are +-4, +-2 (1 + 1 - 2 = 0, 1 - 1 + 2 = 2): 6 of 8.
    assert paired_difference([1.0, 1.0, 2.0], [0.0, 2.0, 0.0]).p_value == 6 / 8
    many = paired_difference(np.ones(EXACT_CLUSTERS), np.zeros(EXACT_CLUSTERS))
    assert many.p_value == 2 / 2**EXACT_CLUSTERS
    assert 0 < paired_difference(np.ones(60), np.zeros(60)).p_value <= 1e-4


def test_pairs_that_all_agree_leave_room_for_a_difference() -> None:
    found = paired_difference([1, 0, 1, 0] * 5, [1, 0, 1, 0] * 5)
    assert found.estimate == 0 and found.p_value == 1.0
    assert -0.2 < found.low < -0.01 and 0.01 < found.high < 0.2


def test_the_difference_interval_covers() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        before, names = clustered(rng, 30, 10, 0.4, 0.3)
        after = before & (rng.random(300) < 0.75)
        found = paired_difference(after, before, names, n_boot=300)
        covered += found.low <= -0.1 <= found.high
    assert covered >= 0.92 * 300


def test_axis_against_draws_of_known_values() -> None:
    axis = np.array([0.0, 0.0, 0.0, 1.0])
    draws = [np.array([1.0, 1, 0, 1]), np.array([1.0, 1, 1, 1]), np.array([0.0, 1, 1, 1])]
    found = against_draws(axis, draws, baseline=np.ones(4))
    assert found.effect == -0.75 and found.draws == (-0.25, 0.0, -0.25)
    assert found.mean == pytest.approx(-1 / 6) and (found.low, found.high) == (-0.25, 0.0)
    assert found.outside and found.p_draw == 1 / 4
    assert found.difference.estimate == pytest.approx(-0.75 + 1 / 6)
    assert found.difference.low < found.difference.estimate < found.difference.high
    bare = against_draws(axis, draws)
    assert bare.difference == found.difference and bare.effect == 0.25


def test_the_axis_that_is_one_more_random_direction_is_covered_and_not_significant() -> None:
    rng = np.random.default_rng(8)
    covered, small = 0, 0
    for _ in range(300):
        prompts = rng.normal(size=20)
        effects = rng.normal(size=6)
        table = prompts + effects[:, None] + 0.3 * rng.normal(size=(6, 20))
        found = against_draws(table[0], table[1:], n_boot=300)
        # The mean of such directions is 0: the interval is about the axis' own effect less that.
        covered += found.difference.low <= effects[0] <= found.difference.high
        small += found.p_draw <= 1 / 6
    assert covered >= 0.9 * 300
    assert small == pytest.approx(300 / 6, abs=22)


def test_draws_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    axis = rng.normal(size=100)
    alike = [axis + 0.01 * rng.normal(size=100) for _ in range(4)]
    apart = [axis + shift for shift in (-2.0, -0.5, 0.5, 2.0)]
    narrow, wide = (against_draws(axis, draws).difference for draws in (alike, apart))
    assert wide.high - wide.low > 20 * (narrow.high - narrow.low)
    assert against_draws(axis, alike[:1]).p_draw == 1.0


def test_the_pareto_front() -> None:
    points = [(0.5, 0.1), (0.4, 0.2), (0.9, 0.5), (0.1, 0.0), (0.9, 0.6), (0.5, 0.1)]
    assert pareto_front(points) == [3, 0, 5, 2]
    assert pareto_front([]) == []
    with pytest.raises(EvaluationError, match="point 1"):
        pareto_front([(0.1, 0.1), (math.nan, 0.0)])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_the_front_is_exactly_what_nothing_beats(points) -> None:
    def beaten(p):
        return any(q[0] >= p[0] and q[1] <= p[1] and q != p for q in points)

    assert sorted(pareto_front(points)) == [i for i, p in enumerate(points) if not beaten(p)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: share_interval([0.5]), "0.5"),
        (lambda: share_interval([True], ["a", "b"]), "2 clusters"),
        (lambda: share_interval([True], level=1.5), "1.5"),
        (lambda: mean_interval([1.0, math.nan]), "item 1 of values is nan"),
        (lambda: mean_interval([[1.0]]), "shape"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "1 items and 2 of b"),
        (lambda: paired_difference([], []), "no pairs"),
        (lambda: against_draws([1.0], []), "0 control directions"),
        (lambda: against_draws([1.0, 2.0], [[1.0, 2.0], [1.0]]), "draw 1"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(call, words) -> None:
    with pytest.raises(EvaluationError, match=words):
        call()
