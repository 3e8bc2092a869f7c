"""Workers that are killed while they work: nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
import time

import pytest
from ray_case import by_id, check_same, requests

from personascope.engines import load_engine
from personascope.errors import EngineError

pytest.importorskip("ray", reason="Ray is not installed here; make test has an environment with it")


def test_a_worker_killed_three_times(spread, local, monkeypatch):
    from personascope.engines._ray._dispatcher import Dispatcher

    wanted = requests(400, tokens=40)
    undisturbed = by_id(spread.run(wanted))
    lost: list[int] = []
    again = Dispatcher._again

    def counted(self, hand, cause):
        lost.append(len(self.held[hand.number]))
        again(self, hand, cause)

    monkeypatch.setattr(Dispatcher, "_again", counted)
    keeper, killed = spread.pids[0], []
    got = []
    for completion in spread.run(wanted):
        got.append(completion)
        if len(killed) == 3:
            continue
        # The other worker goes on meanwhile, slowly, to leave work for the one that is started again.
        time.sleep(0.1)
        alive = [pid for pid in spread.pids if pid != keeper and pid not in killed]
        if alive and len(got) % 5 == 0:
            os.kill(alive[0], signal.SIGKILL)
            killed.append(alive[0])
    assert len(killed) == len(lost) == 3, "the run ended before the worker was killed three times"
    assert sum(lost) > 0, "nothing was lost, so nothing was shown"
    check_same(by_id(got), undisturbed)
    check_same(by_id(got), by_id(local.run(wanted)))


def test_all_workers_killed_at_once(spread, local):
    wanted = requests(60)
    got = []
    for completion in spread.run(wanted):
        if not got:
            for pid in spread.pids:
                os.kill(pid, signal.SIGKILL)
        got.append(completion)
    check_same(by_id(got), by_id(local.run(wanted)))


def test_a_worker_that_keeps_dying_is_given_up(model, monkeypatch):
    from personascope.engines._ray import _pool

    monkeypatch.setattr(_pool, "MAX_DEATHS", 1)
    engine = load_engine(model, dtype="float32", max_batch=4, workers=1, address="local")
    try:
        actor_of = engine._pool._actor

        def stillborn():
            actor = actor_of()
            engine._pool._kill(actor)
            return actor

        monkeypatch.setattr(engine._pool, "_actor", stillborn)
        os.kill(engine.pids[0], signal.SIGKILL)
        with pytest.raises(EngineError, match=r"died \d times") as caught:
            list(engine.run(requests(8)))
        assert caught.value.hint
    finally:
        engine.close()
