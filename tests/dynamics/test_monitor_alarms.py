"""Rules hold the rate they were set to, whatever the noise; CUSUM finds what a threshold misses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_case import noise, save_monitor_map, talks, token_talks
from scipy.stats import beta, binom

from personascope.dynamics.monitor import Cusum, Monitor, MonitorBaseline, Threshold, evaluate_monitor
from personascope.dynamics.monitor._rules import first_alarm
from personascope.errors import DynamicsError, UsageError
from personascope.stats._conformal import Calibration

POSITIONS = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


def turn_rule(warmup: int = 0, allowance: float = 0.5) -> Cusum:
    baseline = MonitorBaseline.fit(talks(np.random.default_rng(0), 30, 10), "turn", warmup=warmup)
    return Cusum(baseline, 4.0, allowance)


RULES = {
    "cusum": turn_rule(),
    "anchored": turn_rule(warmup=3),
    "threshold": Threshold("turn", 0.5, window=3),
}


@settings(max_examples=40, deadline=None)
@given(POSITIONS, st.sampled_from(["cusum", "anchored"]))
def test_a_cusum_is_never_negative_and_follows_its_recursion(values: list[float], name: str) -> None:
    rule = RULES[name]
    assert isinstance(rule, Cusum)
    found = rule.statistic(np.array(values))
    assert found.min() >= 0
    of, total = rule.baseline, 0.0
    means = [of.by_reply[min(i, len(of.by_reply) - 1)] for i in range(len(values))]
    z = [
        (v - m) / of.spread[min(i, len(of.spread) - 1)]
        for i, (v, m) in enumerate(zip(values, means, strict=True))
    ]
    first = np.mean(z[: of.warmup]) if of.warmup else 0.0
    for i, one in enumerate(z):
        deviation = (one - of.persistence * first) / of.residual_sd if of.warmup and i >= of.warmup else one
        total = max(0.0, total - deviation - rule.allowance)
        assert found[i] == pytest.approx(total, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(POSITIONS, st.floats(0.01, 3))
def test_lower_positions_never_lower_the_statistic(values: list[float], by: float) -> None:
    for name in ("cusum", "threshold"):
        here, lower = (RULES[name].statistic(np.array(values) - shift) for shift in (0.0, by))
        assert (lower >= here).all()
        assert np.array_equal(np.isfinite(lower), np.isfinite(here))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5), st.sampled_from([0, 3]))
def test_the_statistic_does_not_depend_on_the_unit(scale: float, shift: float, warmup: int) -> None:
    rng = np.random.default_rng(3)
    some, other = talks(rng, 20, 8, own=0.5), talks(rng, 3, 8)
    plain = Cusum(MonitorBaseline.fit(some, "turn", warmup=warmup), 1.0, 0.5)
    moved = Cusum(MonitorBaseline.fit([shift + scale * x for x in some], "turn", warmup=warmup), 1.0, 0.5)
    for one in other:
        assert moved.statistic(shift + scale * one) == pytest.approx(plain.statistic(one), abs=1e-6)


def test_an_empty_reply_changes_nothing() -> None:
    values = np.array([1.5, 0.4, np.nan, 0.3, 0.2])
    for rule in (RULES["cusum"], Threshold("turn", 0.5)):
        found = rule.statistic(values)
        assert len(found) == 5 and found[2] == found[1]


def test_the_baseline_finds_what_is_usual_at_each_place() -> None:
    rng = np.random.default_rng(1)
    turns = MonitorBaseline.fit(talks(rng, 300, 6), "turn")
    assert turns.by_reply[0] == pytest.approx(1.5, abs=0.05)
    assert turns.by_reply[1:] == pytest.approx((1.0,) * 5, abs=0.05)
    assert turns.spread == pytest.approx((0.2,) * 6, rel=0.15)
    tokens = MonitorBaseline.fit(token_talks(rng, 200, 3, 80), "token")
    assert tokens.by_token[0] == pytest.approx(-3.0, abs=0.1)
    assert tokens.by_token[1] == pytest.approx(0.75, abs=0.1)
    assert tokens.by_token[60] == pytest.approx(1.0, abs=0.1)
    assert tokens.by_reply == pytest.approx((0.0,) * 3, abs=0.05)


def test_places_that_few_conversations_reach_are_taken_together() -> None:
    rng = np.random.default_rng(2)
    long, short = talks(rng, 4, 9), talks(rng, 20, 5)
    found = MonitorBaseline.fit([*short, *long], "turn")
    assert len(found.by_reply) == 9
    assert len(set(found.by_reply[4:])) == 1
    assert found.conversations == 24


def test_a_level_of_its_own_is_carried_as_far_as_it_lasts() -> None:
    rng = np.random.default_rng(5)
    same = MonitorBaseline.fit(talks(rng, 200, 12, rho=0.0), "turn", warmup=3)
    apart = MonitorBaseline.fit(talks(rng, 200, 12, own=2.0, rho=0.0), "turn", warmup=3)
    # Of a level with variance 4 and noise with variance 1: 4 / (4 + 1/3).
    assert same.persistence < 0.15 and apart.persistence == pytest.approx(12 / 13, abs=0.06)
    assert same.residual_sd == pytest.approx(1.0, abs=0.05) and apart.residual_sd < 0.65


@pytest.mark.parametrize(("false_alarms", "n"), [(0.05, 39), (0.2, 19)])
def test_the_rate_is_what_was_set_whatever_the_noise(false_alarms: float, n: int) -> None:
    # (n + 1) a is whole, so that the guarantee is an equality and both limits of the binomial hold.
    rng = np.random.default_rng(int(1000 * false_alarms))
    runs, alarms = 300, dict.fromkeys(("cusum", "threshold"), 0)
    for _ in range(runs):
        every = [np.exp(one) for one in talks(rng, 12 + n + 1, 10, own=1.0, rho=0.7)]
        baseline = MonitorBaseline.fit(every[:12], "turn")
        rules = {
            "cusum": Cusum.calibrated(baseline, every[12:-1], false_alarms=false_alarms),
            "threshold": Threshold.calibrated(every[12:-1], "turn", false_alarms=false_alarms),
        }
        for name, rule in rules.items():
            alarms[name] += first_alarm(rule, every[-1]) is not None
    for count in alarms.values():
        assert binom.ppf(0.001, runs, false_alarms) <= count <= binom.ppf(0.999, runs, false_alarms)


def test_the_rate_holds_for_tokens_too() -> None:
    rng = np.random.default_rng(8)
    runs, alarms, false_alarms = 150, 0, 0.2
    for _ in range(runs):
        every = token_talks(rng, 10 + 9 + 1, 2, 20, own=0.5)
        baseline = MonitorBaseline.fit(every[:10], "token", warmup=8)
        rule = Cusum.calibrated(baseline, every[10:-1], false_alarms=false_alarms)
        alarms += first_alarm(rule, every[-1]) is not None
    assert binom.ppf(0.001, runs, false_alarms) <= alarms <= binom.ppf(0.999, runs, false_alarms)


def test_the_range_of_the_rate_is_that_of_the_order_statistic() -> None:
    for n, rank in [(19, 19), (39, 38), (200, 190)]:
        found = Calibration(0.05, n, rank, 10, n).rate_range()
        assert found == pytest.approx(tuple(beta(n + 1 - rank, rank).ppf([0.05, 0.95])), abs=1e-9)


def test_a_horizon_cuts_the_conversations() -> None:
    rng = np.random.default_rng(4)
    some = [*talks(rng, 15, 6), *talks(rng, 15, 12)]
    low = [np.append(one, -9.0) for one in some]
    rule = Threshold.calibrated(low, "turn", false_alarms=0.1, horizon=6)
    assert rule.calibration is not None
    assert (rule.calibration.horizon, rule.calibration.reached) == (6, 30)
    assert rule.limit == Threshold.calibrated([one[:6] for one in low], "turn", false_alarms=0.1).limit
    whole = Threshold.calibrated(low, "turn", false_alarms=0.1)
    assert whole.limit == -9.0 and whole.calibration is not None
    assert (whole.calibration.horizon, whole.calibration.reached) == (13, 15)


def switched(
    rng: np.random.Generator, count: int, shift: float, **how: float
) -> list[tuple[np.ndarray, int]]:
    return [(one - 0.2 * shift * (np.arange(15) >= 5), 5) for one in talks(rng, count, 15, **how)]


def test_a_cusum_finds_a_small_shift_that_lasts_sooner_and_a_large_one_no_sooner() -> None:
    rng = np.random.default_rng(6)
    baseline = MonitorBaseline.fit(talks(rng, 60, 15, rho=0.2), "turn")
    setting, calm = talks(rng, 199, 15, rho=0.2), talks(rng, 200, 15, rho=0.2)
    rules = {
        "cusum": Cusum.calibrated(baseline, setting, false_alarms=0.1),
        "threshold": Threshold.calibrated(setting, "turn", false_alarms=0.1),
    }
    small, large = (switched(rng, 200, shift, rho=0.2) for shift in (1.5, 6.0))
    found = {name: evaluate_monitor(rule, calm, small) for name, rule in rules.items()}
    for name, rule in rules.items():
        assert rule.calibration is not None
        low, high = rule.calibration.rate_range()
        assert found[name].false_alarms.low < high and low < found[name].false_alarms.high
    assert found["cusum"].delay[1] < found["threshold"].delay[1]
    assert found["cusum"].detected.low > found["threshold"].detected.high
    # One value that is far too low is alarm enough: adding up has nothing to win there.
    at_once = {name: evaluate_monitor(rule, calm, large) for name, rule in rules.items()}
    assert at_once["threshold"].delay[1] == 1 <= at_once["cusum"].delay[1]


def test_the_anchor_helps_where_conversations_have_levels_of_their_own() -> None:
    rng = np.random.default_rng(7)

    def delays(own: float, warmup: int) -> tuple[float, float]:
        fit, setting, moved = (token_talks(rng, count, 4, 60, own=own) for count in (60, 99, 120))
        rule = Cusum.calibrated(MonitorBaseline.fit(fit, "token", warmup=warmup), setting, false_alarms=0.1)
        low = [([x - 0.5 * 0.7 * (r >= 2) for r, x in enumerate(one)], 2) for one in moved]
        found = evaluate_monitor(rule, [], low)
        return found.detected.estimate, found.delay[1]

    assert delays(1.0, 40)[0] > delays(1.0, 0)[0] + 0.3
    # Without such levels it costs next to nothing.
    (with_it, slow), (without, quick) = delays(0.0, 40), delays(0.0, 0)
    assert with_it > without - 0.1 and slow < 1.5 * quick


def test_a_percentile_of_the_map_is_the_limit(tmp_path: Path) -> None:
    found = save_monitor_map(tmp_path / "map")
    at = found.middle_layer
    rule = Threshold.at_percentile(found)
    assert rule.limit == pytest.approx(found.to_units(found.quantiles.default[at, 1], at))
    assert rule.calibration is None and "percentile 5 of default" in rule.name
    role = Threshold.at_percentile(found, 50, 1, of="role", level="token")
    assert role.limit == pytest.approx(found.to_units(found.quantiles.role[1, 4], 1))
    assert role.window > 1
    between = Threshold.at_percentile(found, 3).limit
    assert Threshold.at_percentile(found, 1).limit < between < rule.limit
    for options, text in [({"percentile": 0.5}, "0.5"), ({"layer": 9}, "layer 9"), ({"of": "x"}, "'x'")]:
        with pytest.raises(UsageError, match=text):
            Threshold.at_percentile(found, **options)


def test_a_rule_is_the_same_when_it_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    tokens = token_talks(rng, 30, 2, 30)
    baseline = MonitorBaseline.fit(tokens[:10], "token", warmup=8)
    rules = [
        Cusum.calibrated(baseline, tokens[10:], false_alarms=0.1),
        Threshold.calibrated(tokens[10:], "token", false_alarms=0.1, window=4),
    ]
    for rule in rules:
        Monitor(rule, layer=0).save(tmp_path / "monitor.json")
        again = Monitor.load(tmp_path / "monitor.json").rule
        assert again == rule
        for one in tokens[:3]:
            assert np.array_equal(again.statistic(one), rule.statistic(one))


def test_what_cannot_be_is_refused_by_name() -> None:
    rng = np.random.default_rng(10)
    some = talks(rng, 30, 8)
    baseline = MonitorBaseline.fit(some[:10], "turn")
    for text, call in [
        ("18 calibration conversations cannot show", lambda: Threshold.calibrated(some[:18], "turn")),
        ("1 of 20 calibration conversations .*number 0.* fitted on",
         lambda: Cusum.calibrated(baseline, some[9:29])),
        ("rate of 1.5", lambda: Threshold.calibrated(some, "turn", false_alarms=1.5)),
        ("horizon of 0", lambda: Threshold.calibrated(some, "turn", horizon=0)),
        ("30 of 30 .* shorter", lambda: Threshold.calibrated(some, "turn", window=9)),
        ("conversation 3 holds no position",
         lambda: Threshold.calibrated([*some[:3], np.zeros(0), *some[3:]], "turn")),
        ("'word' is no level", lambda: MonitorBaseline.fit(some, "word")),  # pyright: ignore
        ("asked of 4", lambda: MonitorBaseline.fit(some[:4], "turn")),
        ("do not vary", lambda: MonitorBaseline.fit([np.ones(5)] * 9, "turn")),
        ("conversation 1 has an infinite", lambda: MonitorBaseline.fit([some[0], some[1] / 0], "turn")),
        ("reply 0 of conversation 0 has a position of nan",
         lambda: MonitorBaseline.fit([[np.array([1.0, np.nan])]] * 9, "token")),
        ("conversation 0 is not one array", lambda: MonitorBaseline.fit([[some[0]]] * 9, "turn")),
        ("reply 0 of conversation 0 is not an array", lambda: MonitorBaseline.fit(some, "token")),
        ("warmup is -1", lambda: MonitorBaseline.fit(some, "turn", warmup=-1)),
        ("threshold nan", lambda: Cusum(baseline, math.nan, 0.5)),
        ("allowance -1", lambda: Cusum(baseline, 1.0, -1)),
        ("limit inf", lambda: Threshold("turn", math.inf)),
        ("mean of 0", lambda: Threshold("turn", 0.0, window=0)),
    ]:  # fmt: skip
        with np.errstate(divide="ignore"), pytest.raises(DynamicsError, match=text):
            call()


def test_exactly_enough_conversations_are_enough() -> None:
    some = talks(np.random.default_rng(11), 19, 8)
    rule = Threshold.calibrated(some, "turn", false_alarms=0.05)
    assert rule.calibration is not None and rule.calibration.rank == 19
    assert rule.limit == min(one.min() for one in some)
    # At the threshold itself there is no alarm.
    assert all(first_alarm(rule, one) is None for one in some)


def test_the_noise_of_these_tests_depends_on_itself() -> None:
    made = noise(np.random.default_rng(0), 400, 50, 0.7)
    assert np.corrcoef(made[:, 20], made[:, 21])[0, 1] == pytest.approx(0.7, abs=0.08)
    assert made.std() == pytest.approx(1.0, abs=0.05)
