"""Evaluating a rule, and calibrating a monitor on a run of conversations."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from monitor_case import drift_run

from personascope.dynamics import DriftRun
from personascope.dynamics.monitor import Cusum, Threshold, calibrate_monitor, evaluate_monitor
from personascope.dynamics.monitor._calibrate import positions_of
from personascope.dynamics.monitor._events import MonitorSource
from personascope.dynamics.monitor._rules import first_alarm
from personascope.errors import DynamicsError

PLAIN = Threshold("turn", 0.0)
TOKENS = Threshold("token", 0.0)


def test_alarms_are_counted_before_and_after_the_switch() -> None:
    calm = [np.array([1.0, 1.0]), np.array([1.0, -1.0]), np.array([1.0]), np.array([np.nan, 1.0])]
    switched = [
        (np.array([1.0, 1.0, -1.0, -1.0]), 2),  # at once
        (np.array([1.0, 1.0, 1.0, 1.0, -1.0]), 2),  # two late
        (np.array([-1.0, 1.0, -1.0, -1.0]), 2),  # before
        (np.array([1.0, 1.0, 1.0, 1.0]), 2),  # never
        (np.array([-1.0]), 0),  # from the first reply on
    ]
    found = evaluate_monitor(PLAIN, calm, switched)
    assert (found.false_alarms.estimate, found.false_alarms.n) == (0.25, 4)
    assert (found.early.estimate, found.early.n) == (0.2, 5)
    assert (found.detected.estimate, found.detected.n) == (0.75, 4)
    assert found.delays == (1, 3, None, math.inf, 1)
    assert found.delay == (1, 1, 3)
    assert all(map(math.isnan, evaluate_monitor(PLAIN, calm).delay))


def test_delays_of_tokens_count_from_the_reply_that_switched() -> None:
    talk = [np.ones(3), np.ones(2), np.array([1.0, 1.0, -1.0])]
    found = evaluate_monitor(TOKENS, [talk[:2]], [(talk, 1), (talk, 2)])
    assert found.level == "token" and found.delays == (5, 3)
    assert evaluate_monitor(TOKENS, [talk], horizon=7).false_alarms.estimate == 0
    assert evaluate_monitor(TOKENS, [talk], horizon=8).false_alarms.estimate == 1
    assert first_alarm(TOKENS, talk) == 8 and first_alarm(TOKENS, talk, 7) is None


def test_a_switch_beyond_the_horizon_is_counted_apart() -> None:
    talk = np.array([1.0, 1.0, -1.0])
    found = evaluate_monitor(PLAIN, [], [(talk, 2), (talk, 1)], horizon=2)
    assert (found.beyond, found.early.n, found.detected.n) == (1, 1, 1)
    assert math.isnan(found.delays[0] or 0.0) and found.delays[1] == math.inf


@pytest.mark.parametrize("reply", [-1, 4, 5])
def test_a_switch_outside_of_the_conversation_is_refused(reply: int) -> None:
    with pytest.raises(DynamicsError, match=f"conversation 0 switches at reply {reply}"):
        evaluate_monitor(PLAIN, [], [(np.ones(4), reply)])


@pytest.fixture(scope="module")
def run() -> DriftRun:
    return drift_run(np.random.default_rng(0))


@pytest.mark.parametrize("level", ["turn", "token"])
def test_a_run_gives_a_monitor_and_says_how_good_it_is(run: DriftRun, level) -> None:
    monitor, report = calibrate_monitor(run, level=level, false_alarms=0.1, warmup=0)
    parts = report.fit, report.calibration, report.held_out
    assert list(map(len, parts)) == [20, 40, 20]
    together = sorted(one for part in parts for one in part)
    assert together == sorted(d.id for d in run.dialogues if d.domain != "therapy")
    assert report.left_out == {} and monitor.rule == report.rules["cusum"]
    assert (monitor.layer, monitor.units) == (1, (-4.0, 6.0))
    assert monitor.source == MonitorSource("tiny/llama", "tiny-llama", "ab" * 32)
    for name, rule in report.rules.items():
        assert rule.calibration is not None
        assert (rule.calibration.n, rule.calibration.reached, rule.calibration.false_alarms) == (40, 40, 0.1)
        assert report.evaluations[name].false_alarms.n == 20
        low, high = rule.calibration.rate_range(0.99)
        share = report.evaluations[name].false_alarms
        assert share.low < high and low < share.high
    # Therapy falls by 0.15 a turn, three quarters of the spread.
    assert report.others["cusum"]["therapy"].low > 0.8
    assert report.others["cusum"].keys() == {"therapy"}
    assert json.loads(json.dumps(report.record(), allow_nan=False))["fit"] == list(report.fit)


def test_the_monitor_is_fed_what_the_run_holds(run: DriftRun) -> None:
    dialogue = run.dialogues[3]
    turns = positions_of(run, dialogue, "turn")
    tokens = positions_of(run, dialogue, "token")
    assert np.asarray(turns) == pytest.approx([np.mean(one) for one in tokens])
    assert np.asarray(positions_of(run, dialogue, "turn", 2)) == pytest.approx(np.asarray(turns))


def test_the_split_depends_on_the_seed_and_the_ids_alone(run: DriftRun) -> None:
    shuffled = replace(run, dialogues=run.dialogues[::-1])
    first, second = (calibrate_monitor(one, false_alarms=0.1)[1] for one in (run, shuffled))
    assert (first.fit, first.calibration) == (second.fit, second.calibration)
    assert first.rules == second.rules
    assert calibrate_monitor(run, false_alarms=0.1, seed=1)[1].fit != first.fit


def test_what_is_not_used_is_reported(run: DriftRun) -> None:
    dialogues = list(run.dialogues)
    dialogues[0] = replace(dialogues[0], ended=None, problem="the auditor timed out")
    dialogues[1] = replace(dialogues[1], ended=None)
    dialogues[2] = replace(dialogues[2], turns=())
    dialogues[3] = replace(dialogues[3], switch=4)
    _, report = calibrate_monitor(replace(run, dialogues=tuple(dialogues)), false_alarms=0.1)
    assert list(report.left_out.values()) == [
        "the auditor timed out",
        "not finished",
        "no reply",
        "switches at turn 4",
    ]
    assert all(one.detected.n + one.early.n >= 1 == len(one.delays) for one in report.evaluations.values())
    assert list(map(len, (report.fit, report.calibration, report.held_out))) == [19, 38, 19]


def test_dialogues_on_which_something_acted_are_no_basis(run: DriftRun) -> None:
    first = run.dialogues[0]
    last = first.turns[-1]
    for changed in (
        replace(first, ended="alarm"),
        replace(first, turns=(*first.turns[:-1], replace(last, plan="abc"))),
        replace(first, turns=(*first.turns[:-1], replace(last, plan_tokens=3))),
        replace(first, turns=(*first.turns[:-1], replace(last, finish_reason="alarm"))),
    ):
        with pytest.raises(DynamicsError, match=f"1 dialogues of .*{first.id}.* under a plan"):
            calibrate_monitor(replace(run, dialogues=(changed, *run.dialogues[1:])), false_alarms=0.1)
    # An alarm that did nothing is no reason to leave a dialogue out: what is left would be too calm.
    noted = replace(first, turns=(replace(first.turns[0], alarm=2), *first.turns[1:]))
    _, report = calibrate_monitor(replace(run, dialogues=(noted, *run.dialogues[1:])), false_alarms=0.1)
    assert report.left_out == {}


def test_a_threshold_can_be_the_rule_and_nothing_need_be_held_out(run: DriftRun) -> None:
    source = MonitorSource("mine")
    monitor, report = calibrate_monitor(
        run,
        rule="threshold",
        false_alarms=0.1,
        shares=(0.3, 0.7, 0.0),
        source=source,
        on_alarm="stop",
        layer=2,
    )
    assert isinstance(monitor.rule, Threshold) and isinstance(report.rules["cusum"], Cusum)
    assert monitor.source == source and monitor.on_alarm == "stop" and monitor.layer == 2
    assert report.held_out == ()
    assert report.record()["false_alarms"]["cusum"]["estimate"] is None
    nameless = replace(run, manifest={})
    assert calibrate_monitor(nameless, false_alarms=0.1)[0].source is None


def test_what_cannot_be_calibrated_is_refused_by_name(run: DriftRun) -> None:
    for text, options in [
        ("of the domains chess .it has coding, therapy, writing", {"domains": ["chess"]}),
        ("40 calibration conversations cannot show", {"false_alarms": 0.01}),
        ("conversations were given; 40 of them set the threshold", {"false_alarms": 0.01}),
        ("layer 1, not at layer 2", {"level": "token", "layer": 2}),
        ("'guess' is no alarm rule", {"rule": "guess"}),
        ("'word' is no level", {"level": "word"}),
        ("not shares of a whole", {"shares": (0.5, 0.5, 0.5)}),
        ("80 .* given; split 5%/90%/5% they leave 4 to fit mean and spread", {"shares": (0.05, 0.9, 0.05)}),
    ]:
        with pytest.raises(DynamicsError, match=text):
            calibrate_monitor(run, **{"false_alarms": 0.1, **options})  # pyright: ignore
