"""The monitor object: what it says, what it does and when, and what stays of it on the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_case import save_monitor_map, talks, token_talks

from personascope.dynamics.monitor import Cusum, Monitor, MonitorBaseline, Threshold
from personascope.dynamics.monitor._events import MonitorSource, MonitorState
from personascope.dynamics.monitor._rules import Rule
from personascope.engines import Watch
from personascope.errors import DynamicsError, StoreError
from personascope.interventions import Cap, Plan

UNITS = (2.0, 6.0)
LOW = Threshold("token", 0.0)


def token_rule() -> Cusum:
    every = token_talks(np.random.default_rng(0), 60, 3, 20)
    return Cusum.calibrated(MonitorBaseline.fit(every[:20], "token", warmup=8), every[20:], false_alarms=0.1)


def turn_rule() -> Cusum:
    every = talks(np.random.default_rng(1), 60, 8)
    return Cusum.calibrated(MonitorBaseline.fit(every[:20], "turn"), every[20:], false_alarms=0.1)


RULES: dict[str, Rule] = {
    "turns": turn_rule(),
    "tokens": token_rule(),
    "plain turns": Threshold("turn", 0.5),
    "plain tokens": Threshold("token", 0.0, window=4),
}


def cap(where: str = "all") -> Plan:
    return Plan((Cap(1, np.arange(1.0, 9.0), floor=1.0, tokens=where),), name="cap")


def run(watch: Watch, raws: Sequence[float], probe: str = "axis") -> tuple[int, int | None]:
    """What an engine does with a watch: return the tokens made, and the first one under a gate."""
    gate = None
    for token, raw in enumerate(raws):
        said = watch(token, {probe: raw, "other": 99.0})
        if said == "stop":
            return token + 1, gate
        if said is not None:
            gate = token + 1
    return len(raws), gate


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(-3, 3), max_size=12), min_size=1, max_size=5), st.sampled_from(list(RULES))
)
def test_feeding_one_by_one_gives_the_statistic_of_the_whole(replies: list[list[float]], name: str) -> None:
    rule = RULES[name]
    monitor = Monitor(rule, layer=3)
    states: list[MonitorState] = []
    if rule.level == "turn":
        flat = [value for reply in replies for value in reply]
        wanted = rule.statistic(np.array(flat))
        states = [monitor.feed(value) for value in flat]
    else:
        wanted = rule.statistic([np.array(reply) for reply in replies])
        for reply in replies:
            monitor.begin_reply()
            states += [monitor.feed(value) for value in reply]
    assert [state.statistic for state in states] == wanted.tolist()
    assert [state.alarm for state in states] == (wanted > rule.threshold).tolist()
    assert [state.n for state in states] == list(range(1, len(wanted) + 1))
    if rule.level == "token":
        places = [(r, t) for r, reply in enumerate(replies) for t in range(len(reply))]
        assert [(state.reply, state.token) for state in states] == places
    over = (wanted > rule.threshold).tolist()
    rises = [i + 1 for i, now in enumerate(over) if now and not (i and over[i - 1])]
    assert [event.n for event in monitor.events] == rises
    assert monitor.alarmed_at == (rises[0] if rises else None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.floats(-3, 3), st.just(math.nan)), min_size=1, max_size=12))
def test_the_trend_is_the_least_squares_slope_of_the_window(values: list[float]) -> None:
    monitor = Monitor(RULES["plain turns"], layer=3, window=5)
    states = [monitor.feed(value) for value in values]
    known = [(i, value) for i, value in enumerate(values) if value == value][-5:]
    if len(known) < 3:
        assert math.isnan(states[-1].trend)
    else:
        slope = np.polyfit(*zip(*known, strict=True), 1)[0]
        assert states[-1].trend == pytest.approx(slope, abs=1e-9)
    assert monitor.trend_unit == "units of the map per turn"


def test_a_line_has_its_slope_and_a_long_conversation_keeps_it() -> None:
    monitor = Monitor(LOW, layer=3)
    for step in range(3000):
        state = monitor.feed(50.0 - 0.01 * step)
    assert state.trend == pytest.approx(-0.01, abs=1e-9)


def test_stop_is_asked_for_once_and_at_the_first_token_of_later_replies() -> None:
    monitor = Monitor(LOW, layer=3, units=UNITS, on_alarm="stop")
    # Position 0 is a projection of 2; the third token lies under it.
    assert run(monitor.watch(), [6.0, 6.0, 1.0, 6.0, 6.0]) == (3, None)
    assert [(e.kind, e.n, e.reply, e.token) for e in monitor.events] == [
        ("alarm", 3, 0, 2),
        ("stop", 3, 0, 2),
    ]
    assert monitor.events[0].position == pytest.approx(-0.25)
    assert run(monitor.watch(), [6.0, 6.0]) == (1, None)
    assert [(e.kind, e.reply, e.token) for e in monitor.events[2:]] == [("stop", 1, 0)]
    monitor.rearm()
    assert run(monitor.watch(), [6.0, 6.0]) == (2, None)
    assert monitor.n == 6


def test_a_plan_is_switched_on_from_the_next_token() -> None:
    plan = cap()
    monitor = Monitor(LOW, layer=3, units=UNITS, on_alarm=plan)
    assert monitor.gate is None
    assert run(monitor.watch(), [6.0, 1.0, 1.0, 6.0, 1.0]) == (5, 2)
    assert monitor.gate is plan
    assert [e.kind for e in monitor.events] == ["alarm", "gate", "alarm"]
    # It lasts for one reply of an engine, so it is asked for again, unless the request has it already.
    assert run(monitor.watch(), [6.0, 6.0]) == (2, 1)
    assert run(monitor.watch(gated=True), [6.0, 6.0]) == (2, None)
    assert [(e.kind, e.reply) for e in monitor.events[3:]] == [("gate", 1)]


def test_a_reply_that_is_made_anew_is_watched_anew() -> None:
    raws = token_talks(np.random.default_rng(5), 1, 2, 30)[0]
    monitor = Monitor(RULES["tokens"], layer=3, units=(0.0, 1.0), on_alarm=cap())
    run(monitor.watch(), raws[0])
    once, watch = monitor.copy(), monitor.watch()
    run(watch, [-9.0] * 20)
    assert monitor.gate is not None and monitor.n == 50
    made = [run(watch, raws[1]), run(once.watch(), raws[1])]
    assert made[0] == made[1] and monitor.gate is once.gate
    assert (monitor.n, monitor.events, monitor.alarmed_at) == (once.n, once.events, once.alarmed_at)
    assert repr(monitor.feed(0.5)) == repr(once.feed(0.5))


def test_a_monitor_of_turns_acts_once() -> None:
    plan = cap()
    monitor = Monitor(RULES["plain turns"], layer=3, on_alarm=plan)
    states = [monitor.feed(value) for value in (1.0, 0.2, 0.1, 0.9, 0.3)]
    assert [state.acted for state in states] == [None, "gate", None, None, None]
    assert [state.alarm for state in states] == [False, True, True, False, True]
    assert [state.reply for state in states] == list(range(5))
    assert monitor.gate is plan and monitor.alarmed_at == 2


def test_a_callback_sees_the_state_and_decides() -> None:
    seen: list[MonitorState] = []

    def decide(state: MonitorState) -> Literal["stop"] | None:
        seen.append(state)
        return "stop" if state.reply else None

    monitor = Monitor(LOW, layer=3, on_alarm=decide)
    states = [monitor.feed(value) for value in (1.0, -1.0, -2.0)]
    assert [state.acted for state in states] == [None, "callback", None]
    assert len(seen) == 1 and (seen[0].n, seen[0].alarm, seen[0].position) == (2, True, -1.0)
    monitor.rearm()
    monitor.begin_reply()
    assert monitor.feed(-3.0).acted == "stop"
    assert [e.kind for e in monitor.events] == ["alarm", "callback", "alarm", "callback", "stop"]


def test_what_a_callback_raises_comes_through() -> None:
    def fail(_state: MonitorState) -> None:
        raise ZeroDivisionError("mine")

    watch = Monitor(LOW, layer=3, units=UNITS, on_alarm=fail).watch()
    watch(0, {"axis": 6.0})
    with pytest.raises(ZeroDivisionError, match="mine"):
        watch(1, {"axis": 0.0})
    monitor = Monitor(LOW, layer=3, on_alarm=lambda _: 7)  # pyright: ignore
    with pytest.raises(DynamicsError, match="7 cannot be done"):
        monitor.feed(-1.0)


def test_copies_go_their_own_way_and_fresh_ones_begin() -> None:
    values = token_talks(np.random.default_rng(3), 1, 1, 60)[0][0] - 0.8
    for name in ("tokens", "plain tokens"):
        monitor = Monitor(RULES[name], layer=3, window=10)
        for value in values[:30]:
            monitor.feed(value)
        other = monitor.copy()
        events = list(monitor.events)
        mine = [monitor.feed(value) for value in values[30:]]
        assert len(other.events) == len(events) and other.n == 30
        assert [other.feed(value) for value in values[30:]] == mine
        assert other.events == monitor.events
        again = monitor.fresh()
        assert (again.n, again.events, again.alarmed_at) == (0, [], None)
        assert again.feed(values[0]) == Monitor(RULES[name], layer=3).feed(values[0])


def test_a_saved_monitor_behaves_as_the_one_that_was_saved(tmp_path: Path) -> None:
    values = token_talks(np.random.default_rng(4), 1, 2, 40)[0]
    for name, rule in RULES.items():
        source = MonitorSource("some/model", "abc", "f00d")
        monitor = Monitor(rule, layer=7, probe="pc1", units=UNITS, source=source, window=6)
        folder = tmp_path / name
        folder.mkdir()
        monitor.save(folder)
        monitor.save(tmp_path / f"{name}.json")
        record = json.loads((folder / "monitor.json").read_text())
        assert (record["layer"], record["units"], record["source"]["map_sha256"]) == (7, [2.0, 6.0], "f00d")
        # The names of the first saved monitors.
        baseline = record["rule"].get("baseline", {"anchor": 0, "carry": 0, "rest": 0})
        assert {"anchor", "carry", "rest"} <= baseline.keys() and "warmup" not in baseline
        calibration = record["rule"]["calibration"]
        assert calibration is None or (calibration["n"], calibration["false_alarms"]) == (40, 0.1)
        for place in (folder, tmp_path / f"{name}.json"):
            again = Monitor.load(place, on_alarm="stop")
            assert (again.rule, again.layer, again.probe) == (rule, 7, "pc1")
            assert (again.units, again.source, again.window) == (UNITS, source, 6)
            assert again.on_alarm == "stop"
            for reply in values:
                monitor.begin_reply()
                again.begin_reply()
                here = [(s.statistic, s.alarm, repr(s.trend)) for s in map(monitor.feed, reply)]
                assert here == [(s.statistic, s.alarm, repr(s.trend)) for s in map(again.feed, reply)]
            monitor = monitor.fresh()


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "monitor.json"
    Monitor(RULES["tokens"], layer=7).save(file)
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"layer": 6}))
    with pytest.raises(StoreError, match="was changed since it was written"):
        Monitor.load(file)
    # What an earlier version wrote has no checksum.
    del record["checksum"]
    file.write_text(json.dumps(record))
    assert Monitor.load(file).layer == 7
    damages = [
        ({"format": 99}, "has the format 99"),
        ({"rule": {**record["rule"], "rule": "guess"}}, "guess"),
        ({"rule": {**record["rule"], "threshold": -1.0}}, "threshold -1"),
        ({"rule": {**record["rule"], "baseline": {**record["rule"]["baseline"], "spread": []}}}, "spread"),
        ({"units": [1.0, 1.0]}, "make no unit"),
        ({"source": {"name": "x"}}, r"'source\.model' is missing"),
        ({"layer": "7"}, r"'layer' is '7': Input should be a valid integer"),
    ]
    for change, text in damages:
        file.write_text(json.dumps({**record, **change}))
        with pytest.raises(StoreError, match=text):
            Monitor.load(file)
    del record["window"]
    file.write_text(json.dumps(record))
    with pytest.raises(StoreError, match="window"):
        Monitor.load(file)
    with pytest.raises(StoreError, match="cannot be read"):
        Monitor.load(tmp_path / "none.json")


def test_a_map_gives_units_and_source(tmp_path: Path) -> None:
    found = save_monitor_map(tmp_path / "map")
    monitor = Monitor.for_map(RULES["plain tokens"], found)
    at = found.middle_layer
    assert monitor.layer == at and monitor.source == MonitorSource("tiny/llama", "tiny-llama", found.digest)
    assert monitor.to_position(3.25) == pytest.approx(found.to_units(3.25, at))
    other = save_monitor_map(tmp_path / "other", n_layers=4)
    monitor.check_map(found)
    with pytest.raises(DynamicsError, match="units of the map"):
        monitor.check_map(other)
    # The units of a map can also come with the watch.
    seen: list[float] = []
    bare = Monitor(LOW, layer=at, on_alarm=lambda state: seen.append(state.position))
    bare.watch("pc1", found)(0, {"pc1": float(found.stats.mean_projection[at]) - 1e-3})
    bare.fresh().watch(to_position=lambda raw: raw - 8.0)(0, {"axis": 1.0})
    assert seen == [pytest.approx(float(found.to_units(found.stats.mean_projection[at] - 1e-3, at))), -7.0]


def test_another_model_is_refused_unless_it_is_meant() -> None:
    monitor = Monitor(LOW, layer=3, source=MonitorSource("some/model", "abc"))
    monitor.check_model(model_id="other/name", revision="abc")
    monitor.check_model(model_id="some/model", revision="")
    for model, revision in [("some/model", "abd"), ("other/name", "")]:
        with pytest.raises(DynamicsError, match="of the model 'some/model'"):
            monitor.check_model(model_id=model, revision=revision)
    monitor.for_model(None).check_model(model_id="other/name", revision="")


def test_what_cannot_be_fed_is_refused_by_name() -> None:
    turns, tokens = Monitor(RULES["turns"], layer=3), Monitor(LOW, layer=3)
    assert math.isnan(turns.feed(math.nan).position)

    def shown(*tokens_: int, values: Mapping[str, float] | None = None) -> None:
        watch = Monitor(LOW, layer=3, units=UNITS).watch()
        for token in tokens_:
            watch(token, {"axis": 5.0} if values is None else values)

    for text, call in [
        ("position 1 of the conversation is inf", lambda: turns.feed(math.inf)),
        ("position 0 of the conversation is nan", lambda: tokens.feed(math.nan)),
        ("does not know the units", lambda: tokens.feed_raw(1.0)),
        ("does not know the units", lambda: tokens.watch()),
        ("monitor of turns cannot watch", lambda: Monitor(RULES["turns"], layer=3, units=UNITS).watch()),
        ("shown token 2 after 0", lambda: shown(0, 2)),
        ("shown token 1 after -1", lambda: shown(1)),
        ("no probe 'axis' .it has pc1", lambda: shown(0, values={"pc1": 1.0})),
        ("trend over 2", lambda: Monitor(LOW, layer=3, window=2)),
        ("make no unit", lambda: Monitor(LOW, layer=3, units=(1.0, 1.0))),
        ("'shout' cannot be done", lambda: Monitor(LOW, layer=3, on_alarm="shout")),  # pyright: ignore
        ("acts on the prompt alone", lambda: Monitor(LOW, layer=3, on_alarm=cap("prompt"))),
    ]:
        with pytest.raises(DynamicsError, match=text):
            call()
