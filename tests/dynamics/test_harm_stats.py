"""The numbers of drift and harm: equal to the textbook's, honest about clusters, sane at the edges."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from personascope.dynamics.harm._statistics import (
    RIDGE,
    Trials,
    bin_places,
    correlations,
    logistic,
    pearson,
    quantile_bins,
)
from personascope.errors import DynamicsError

floats = st.lists(st.floats(-100, 100).map(lambda x: round(x, 2)), min_size=5, max_size=40)


def planted(
    seed: int,
    *,
    roles: int = 30,
    size: int = 8,
    slope: float = 0.0,
    spread: float = 0.0,
    within: float = 0.6,
) -> Trials:
    """Trials whose log odds fall with the position, and vary by role besides."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(roles, 1)) + within * rng.normal(size=(roles, size))).ravel()
    odds = -1 + slope * x + np.repeat(spread * rng.normal(size=roles), size)
    names = [f"r{number:02d}" for number in range(roles) for _ in range(size)]
    return Trials.of(x, rng.random(len(x)) < 1 / (1 + np.exp(-odds)), names)


@given(floats, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_coefficients_and_ranks_are_the_textbooks(values, seed) -> None:
    x = np.array(values)
    y = np.random.default_rng(seed).integers(0, 2, len(x)).astype(float)
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        assert pearson(stats.rankdata(x), stats.rankdata(y)) == pytest.approx(
            stats.spearmanr(x, y).statistic, abs=1e-9
        )
    else:
        assert math.isnan(pearson(x, y))


def test_the_fit_is_the_maximum_of_the_penalised_likelihood() -> None:
    trials = planted(0, slope=-1.5)
    fit = logistic(trials, n_boot=100)
    assert fit is not None
    x, y = trials.position, trials.harmful
    z = (x - x.mean()) / x.std()

    def loss(beta: np.ndarray) -> float:
        odds = beta[0] + beta[1] * z
        return float(np.logaddexp(0, odds).sum() - y @ odds + RIDGE / 2 * beta[1] ** 2)

    best = optimize.minimize(loss, np.zeros(2), tol=1e-10).x
    assert fit.slope == pytest.approx(best[1] / x.std(), abs=1e-4)
    assert fit.intercept == pytest.approx(best[0] - best[1] * x.mean() / x.std(), abs=1e-4)
    at = fit.curve[20]
    assert at.share == pytest.approx(1 / (1 + math.exp(-fit.intercept - fit.slope * at.position)))
    assert all(point.low <= point.share <= point.high for point in fit.curve)


def test_intervals_cover_what_was_planted() -> None:
    covered = 0
    for seed in range(60):
        fit = logistic(planted(seed, roles=40, slope=-1.0), n_boot=200)
        assert fit is not None
        covered += fit.low <= -1.0 <= fit.high
    assert covered >= 52


def test_dealing_by_role_keeps_its_level_where_roles_differ() -> None:
    by_role, by_trial = 0, 0
    for seed in range(40):
        trials = planted(seed, roles=20, size=12, spread=2.5, within=0.2)
        found = correlations(trials, n_boot=20, n_perm=99)
        by_role += found[0].p_value <= 0.05
        by_trial += stats.pearsonr(trials.position, trials.harmful).pvalue <= 0.05
    assert by_role <= 6
    # What dealing whole roles is for: taking the trials for independent finds a relation far too often.
    assert by_trial >= 14


def test_a_relation_among_roles_is_found_at_both_levels() -> None:
    found = {(c.method, c.level): c for c in correlations(planted(1, slope=-1.5), n_perm=299)}
    assert set(found) == {(m, lv) for m in ("pearson", "spearman") for lv in ("trial", "role")}
    for one in found.values():
        assert -1 < one.low < one.r < one.high < 0
        assert one.p_value == pytest.approx(1 / 300)
    assert found["pearson", "role"].r < found["pearson", "trial"].r
    assert {one.n for one in found.values()} == {240} and {one.n_roles for one in found.values()} == {30}


def test_results_do_not_depend_on_the_order_of_roles_beyond_the_draws() -> None:
    trials = planted(2, slope=-1.0)
    order = np.random.default_rng(0).permutation(len(trials.position))
    other = Trials(trials.position[order], trials.harmful[order], trials.role[order])
    a, b = logistic(trials), logistic(other)
    assert a is not None and b is not None
    assert (a.slope, a.low, a.high) == pytest.approx((b.slope, b.low, b.high))
    one, two = correlations(trials, n_perm=49)[0], correlations(other, n_perm=49)[0]
    assert (one.r, one.low, one.high) == pytest.approx((two.r, two.low, two.high))


def test_a_threshold_that_separates_is_said_and_keeps_the_slope_finite() -> None:
    x = np.linspace(-1, 1, 60)
    fit = logistic(Trials.of(x, x < 0, [f"r{n % 6}" for n in range(60)]), n_boot=100)
    assert fit is not None and fit.separated
    assert math.isfinite(fit.slope) and fit.slope < -5


def test_where_nothing_varies_nothing_is_fitted() -> None:
    names = [f"r{n % 6}" for n in range(60)]
    for trials in (
        Trials.of(np.linspace(-1, 1, 60), np.ones(60, bool), names),
        Trials.of(np.zeros(60), np.arange(60) % 2 == 0, names),
    ):
        assert logistic(trials) is None
        for one in correlations(trials, n_boot=50, n_perm=20):
            values = (one.r, one.low, one.high, one.p_value, one.null_low, one.null_high)
            assert all(map(math.isnan, values))


def test_two_roles_give_no_interval_and_rare_harm_none_that_rests_on_few_resamples() -> None:
    two = Trials.of(np.linspace(-1, 1, 20), np.arange(20) % 3 == 0, ["a"] * 10 + ["b"] * 10)
    assert all(math.isnan(c.low) for c in correlations(two, n_boot=50, n_perm=20))
    fit = logistic(two)
    assert fit is not None and math.isnan(fit.low) and math.isfinite(fit.slope)
    # One harmful reply of 60: in about a third of the resamples its role does not occur.
    rare = Trials.of(np.linspace(-1, 1, 60), np.arange(60) == 3, [f"r{n // 10}" for n in range(60)])
    assert math.isnan(correlations(rare, n_boot=100, n_perm=20)[0].low)
    fit = logistic(rare, n_boot=100)
    assert fit is not None and math.isnan(fit.low)


@given(st.integers(1, 200), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_bins_hold_every_trial_once_in_order(n, count) -> None:
    position = np.random.default_rng(n).normal(size=n)
    parts = bin_places(position, count)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert len(parts) == min(count, max(1, n // 10))
    for low, high in pairwise(parts):
        assert position[low].max() <= position[high].min()


def test_bins_have_shares_with_intervals_by_role() -> None:
    trials = planted(3, slope=-1.5)
    found = quantile_bins(trials, 6)
    assert sum(part.share.n for part in found) == 240
    for part in found:
        assert part.low <= part.position <= part.high
        assert part.share.low < part.share.estimate < part.share.high
        assert 1 < part.share.n_clusters <= 30
    assert found[0].share.low > found[-1].share.high


def test_what_are_no_trials_is_refused() -> None:
    with pytest.raises(DynamicsError, match="2 positions, 1 outcomes"):
        Trials.of(np.zeros(2), np.zeros(1, bool), ["a", "b"])
    with pytest.raises(DynamicsError, match="0 positions"):
        Trials.of(np.zeros(0), np.zeros(0, bool), [])
    with pytest.raises(DynamicsError, match="trial 1 is not finite"):
        Trials.of(np.array([0, np.nan]), np.zeros(2, bool), ["a", "b"])
