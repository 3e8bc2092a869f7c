"""The worker's thread outlives what its listeners do."""

from __future__ import annotations

import queue

import pytest

from eval_case import engine
from personascope.chat import Message
from personascope.engines import LiveEnd, LiveTokens, Request, Sampling
from personascope.errors import EngineError
from personascope.live._worker import BatchWorker, Heard


def ask(length: int, **changes: object) -> Request:
    return Request("chat", (Message("user", "What is rain?"),), Sampling(0.0, 1.0, length), **changes)


@pytest.mark.parametrize(("kind", "length"), [(LiveTokens, 5), (LiveEnd, 5), (LiveEnd, 1)])
def test_a_listener_that_fails_ends_its_own_reply_alone(kind: type, length: int) -> None:
    worker = BatchWorker(engine().open_batch)
    bad: list[Heard] = []
    good: queue.Queue[Heard] = queue.Queue()

    def failing(heard: Heard) -> None:
        bad.append(heard)
        if isinstance(heard, kind) and getattr(heard, "error", None) is None:
            raise ValueError("no such character")

    worker.submit(ask(length), failing)
    worker.submit(ask(12), good.put)
    while not isinstance(heard := good.get(timeout=30), LiveEnd):
        pass
    assert heard.completion is not None and worker.alive and worker.running == 0
    last = bad[-1]
    assert isinstance(last, LiveEnd) and last.completion is None and "no such character" in str(last.error)
    assert sum(isinstance(one, LiveEnd) and one.error is not None for one in bad) == 1
    worker.close(EngineError("over"))
    assert not worker.alive


def test_what_runs_at_the_end_is_told_why() -> None:
    worker = BatchWorker(engine().open_batch)
    heard: queue.Queue[Heard] = queue.Queue()
    worker.submit(ask(2000), heard.put)
    heard.get(timeout=30)
    worker.close(EngineError("over"))
    found = [heard.get(timeout=1) for _ in range(heard.qsize())]
    last = found[-1]
    assert isinstance(last, LiveEnd) and (last.completion is not None or str(last.error) == "over")
