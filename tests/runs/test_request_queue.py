from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from personascope.chat import Message
from personascope.engines import Completion, Request, Sampling, Scored, ScoreRequest
from personascope.errors import ChatError, EngineError, UsageError
from personascope.interventions import Plan, Steer
from personascope.runs import RequestNames, RequestQueue

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=6)


class FakeEngine:
    """Answers with the prompt's text; "bad" is refused, "crash" breaks, and a plan may be forgotten."""

    def __init__(self, *, forget: bool = False) -> None:
        self.forget = forget
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.pauses: dict[str, threading.Event] = {}
        self.threads: set[str] = set()

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        requests = list(requests)
        self.threads.add(threading.current_thread().name)
        texts = [str(request.prompt[-1].content) for request in requests]  # pyright: ignore[reportAttributeAccessIssue]
        self.batches.append(texts)
        if "bad" in texts:
            raise ChatError("the prompt is bad")
        for request, text in reversed(list(zip(requests, texts, strict=True))):
            assert self.gate.wait(10)
            if text in self.pauses:
                assert self.pauses[text].wait(10)
            if text == "crash":
                raise ZeroDivisionError("broken")
            if text == "lost":
                continue
            digest = None if request.plan is None or self.forget else request.plan.digest
            yield Completion(request.id, text, (1, 2), "stop", 3, plan_digest=digest)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for request in list(requests):
            logprobs = np.array(request.continuation, np.float32)
            yield Scored(request.id, logprobs, False, request.plan.digest if request.plan else None)


def ask(batcher: RequestQueue, text: str, **options: Any) -> Any:
    return batcher.generate((Message("user", text),), GREEDY, **options)


@contextmanager
def busy(fake: FakeEngine, batcher: RequestQueue) -> Iterator[None]:
    """Keep the engine at work: what is asked meanwhile waits, however slow the machine is."""
    fake.gate.clear()
    first = ask(batcher, "first")
    while not fake.batches:
        time.sleep(0.005)
    yield
    fake.gate.set()
    assert first.result(10).text == "first"


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def batcher(fake: FakeEngine) -> Iterator[RequestQueue]:
    made = RequestQueue(fake)  # pyright: ignore[reportArgumentType]
    yield made
    made.close()


def push(strength: float = 8.0) -> Plan:
    return Plan((Steer(2, np.arange(48) - 20.0, strength),), name="push")


def test_what_is_asked_meanwhile_is_one_batch(fake: FakeEngine, batcher: RequestQueue) -> None:
    plan = push()
    with busy(fake, batcher):
        futures = [ask(batcher, f"q{number}", plan=plan if number % 2 else None) for number in range(40)]
        scored = batcher.score((1,), (4, 5))
    assert [future.result(10).text for future in futures] == [f"q{number}" for number in range(40)]
    assert [future.result().plan_digest for future in futures[:2]] == [None, plan.digest]
    assert list(scored.result(10).logprobs) == [4, 5]
    assert [len(batch) for batch in fake.batches] == [1, 40]
    assert fake.threads == {"personascope-batch"}


def test_an_error_goes_to_its_caller_alone(fake: FakeEngine, batcher: RequestQueue) -> None:
    texts = [f"q{number}" for number in range(9)]
    texts[3] = texts[7] = "bad"
    with busy(fake, batcher):
        futures = [ask(batcher, text) for text in texts]
    for text, future in zip(texts, futures, strict=True):
        if text == "bad":
            with pytest.raises(ChatError, match="the prompt is bad"):
                future.result(10)
        else:
            assert future.result(10).text == text
    # Found by halves: the whole, then parts of it.
    assert len(fake.batches[1]) == 9
    assert len(fake.batches) < 2 * len(texts)


def test_a_broken_engine_breaks_what_is_not_done(fake: FakeEngine, batcher: RequestQueue) -> None:
    # Answered from the last one on.
    with busy(fake, batcher):
        waiting, crash, done = (ask(batcher, text) for text in ("waiting", "crash", "done"))
    assert done.result(10).text == "done"
    for future in (crash, waiting):
        with pytest.raises(ZeroDivisionError):
            future.result(10)
    assert ask(batcher, "later").result(10).text == "later"
    with pytest.raises(EngineError, match="without an answer"):
        ask(batcher, "lost").result(10)


def test_what_ran_without_its_plan_is_an_error() -> None:
    batcher = RequestQueue(FakeEngine(forget=True))  # pyright: ignore[reportArgumentType]
    steered, plain = ask(batcher, "a", plan=push()), ask(batcher, "b")
    with pytest.raises(EngineError, match="the engine applied no plan"):
        steered.result(10)
    assert plain.result(10).text == "b"
    batcher.close()


def test_closing_leaves_nobody_waiting(fake: FakeEngine, batcher: RequestQueue) -> None:
    fake.pauses["two"] = threading.Event()
    with busy(fake, batcher):
        running = [ask(batcher, "one"), ask(batcher, "two")]
    while len(fake.batches) < 2:
        time.sleep(0.005)
    waiting = ask(batcher, "three")

    def go_on() -> None:
        while not batcher._closed:
            time.sleep(0.005)
        fake.pauses["two"].set()

    # The engine gives its next result while the batcher is being closed.
    opener = threading.Thread(target=go_on)
    opener.start()
    batcher.close()
    opener.join()
    with pytest.raises(CancelledError):
        waiting.result(0)
    assert running[1].result(0).text == "two"
    with pytest.raises(UsageError, match="was closed before"):
        running[0].result(0)
    with pytest.raises(UsageError, match="after its model was closed"):
        ask(batcher, "four")
    assert not any(thread.name == "personascope-batch" for thread in threading.enumerate())
    batcher.close()


def test_a_queue_with_odd_times_is_refused(fake: FakeEngine) -> None:
    with pytest.raises(UsageError, match="linger 2"):
        RequestQueue(fake, linger=2, patience=1)  # pyright: ignore[reportArgumentType]


def test_names_depend_on_what_is_asked_alone() -> None:
    first, second = RequestNames(), RequestNames()
    a, b = (Message("user", "a"),), (Message("user", "b"),)
    names = [first.name(a), first.name(b), first.name(a), first.name((1, 2))]
    assert [second.name((1, 2)), second.name(b), second.name(a), second.name(a)] == [
        names[3],
        names[1],
        names[0],
        names[2],
    ]
    assert len(set(names)) == 4
