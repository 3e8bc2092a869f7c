"""What a monitor says in advance of a reply is what it does in it, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from personascope.dynamics.monitor import Cusum, Monitor, MonitorBaseline, Threshold
from personascope.engines import Alarm, DeclaredWatch, Gate
from personascope.interventions import Plan, Steer

PLAN = Plan((Steer(1, np.ones(4, np.float32), 1.0),))


def monitor(rng: np.random.Generator, action: Plan | str | None) -> Monitor:
    if rng.random() < 0.4:
        rule = Threshold("token", float(rng.uniform(-1, 1)), window=int(rng.integers(1, 40)))
    else:
        base = MonitorBaseline(
            "token",
            by_token=tuple(rng.normal(size=int(rng.integers(1, 9))).tolist()),
            by_reply=tuple(rng.normal(size=int(rng.integers(1, 4))).tolist()),
            spread=tuple(rng.uniform(0.2, 2, int(rng.integers(1, 7))).tolist()),
            warmup=int(rng.integers(0, 30)),
            persistence=float(rng.random()),
            residual_sd=float(rng.uniform(0.3, 2)),
            conversations=9,
        )
        rule = Cusum(base, threshold=float(rng.uniform(0, 30)), allowance=float(rng.uniform(0, 0.5)))
    units = (float(rng.normal()), float(rng.normal()))
    return Monitor(rule, layer=1, units=units, on_alarm=action)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("action", [PLAN, "stop", None])
@pytest.mark.parametrize("seed", range(10))
def test_a_gate_acts_after_the_token_after_which_its_monitor_does(
    seed: int, action: Plan | str | None
) -> None:
    rng = np.random.default_rng(seed)
    watched = monitor(rng, action)
    acted = 0
    for reply in range(6):
        gated = watched.gate is not None and bool(rng.random() < 0.5)
        watch = watched.watch(gated=gated)
        assert isinstance(watch, DeclaredWatch)
        gate = watch.gate()
        state = None
        if gate is not None:
            assert gate.action == (PLAN if action is PLAN else "stop")
            # It may have passed through JSON on its way.
            state = Alarm.from_record(gate.alarm.record()).start()
        for token in range(int(rng.integers(1, 60))):
            raw = float(np.float32(rng.normal(scale=2)))
            wish = watch(token, {"axis": raw})
            said = state is not None and state.update(raw)
            assert (wish is not None) == said, (reply, token)
            if said:
                acted += 1
                state = None
                if wish == "stop":
                    break
        if action == "stop" and watched.stopped and rng.random() < 0.5:
            watched.rearm()
    assert action is None or acted or watched.alarmed_at is None


def test_what_a_function_decides_is_not_said_in_advance() -> None:
    rng = np.random.default_rng(0)
    asked = monitor(rng, None)
    assert isinstance(asked.watch(), DeclaredWatch) and asked.watch().gate() is None  # pyright: ignore
    asked.on_alarm = lambda _state: PLAN
    assert not isinstance(asked.watch(), DeclaredWatch)
    plain = monitor(rng, PLAN)
    assert not isinstance(plain.watch(to_position=lambda raw: raw), DeclaredWatch)
    gate = plain.watch("other").gate()  # pyright: ignore
    assert isinstance(gate, Gate) and gate.probe == "other"
