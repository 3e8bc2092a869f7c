from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from personascope.errors import JudgeError, UsageError
from personascope.judge import JudgeItem, JudgePool, JudgeStats, RulesJudge, Verdict


def item(number: int) -> JudgeItem:
    return JudgeItem(f"i{number}", "pirate", "Sails.", "You are a pirate.", "Who are you?", "A pirate.")


class FakeJudge:
    """Scores after a while; fails at the items that it is told to."""

    def __init__(self, *, seconds: float = 0.0, fail: dict[str, Exception] | None = None) -> None:
        self.seconds = seconds
        self.fail = fail or {}
        self.at_once = 0
        self.most_at_once = 0
        self.closed = 0

    @property
    def name(self) -> str:
        return "fake"

    @property
    def stats(self) -> JudgeStats:
        return JudgeStats()

    async def score(self, item: JudgeItem) -> Verdict:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if item.id in self.fail:
                raise self.fail[item.id]
            return Verdict(item.id, 3, "fine", self.name)
        finally:
            self.at_once -= 1

    async def aclose(self) -> None:
        self.closed += 1


def test_every_item_gives_one_verdict() -> None:
    judge = FakeJudge(seconds=0.001)
    with JudgePool(judge, max_pending=8) as pool:
        for number in range(100):
            pool.submit(item(number))
        verdicts = list(pool.results())
    assert Counter(v.id for v in verdicts) == Counter(f"i{n}" for n in range(100))
    assert judge.most_at_once <= 8
    assert (pool.pending, pool.fatal, judge.closed) == (0, None, 1)


def test_labelling_yields_verdicts_while_items_are_still_handed_over() -> None:
    handed: list[str] = []
    seen_at: list[int] = []

    def items():
        for number in range(40):
            handed.append(f"i{number}")
            yield item(number)

    fail: dict[str, Exception] = {"i7": JudgeError("no score in it")}
    with JudgePool(FakeJudge(seconds=0.001, fail=fail), max_pending=4) as pool:
        verdicts = []
        for verdict in pool.label(items()):
            verdicts.append(verdict)
            seen_at.append(len(handed))
        assert list(pool.label([])) == []
    assert Counter(v.id for v in verdicts) == Counter(handed)
    assert seen_at[0] < 40
    assert pool.pending == 0


def test_submit_blocks_while_too_many_are_in_flight() -> None:
    with JudgePool(FakeJudge(seconds=0.3), max_pending=2) as pool:
        start = time.monotonic()
        pool.submit(item(0))
        pool.submit(item(1))
        assert time.monotonic() - start < 0.2
        pool.submit(item(2))
        assert time.monotonic() - start > 0.25
        assert len(list(pool.results())) == 3


def test_drain_waits_no_longer_than_told() -> None:
    with JudgePool(FakeJudge(seconds=0.3)) as pool:
        assert pool.drain(5.0) == []  # nothing pending: nothing to wait for
        pool.submit(item(0))
        assert pool.drain() == []
        assert pool.drain(0.02) == []
        assert [v.id for v in pool.drain(None)] == ["i0"]


def test_verdicts_outlive_the_close() -> None:
    pool = JudgePool(FakeJudge(seconds=0.01))
    for number in range(5):
        pool.submit(item(number))
    pool.close()
    pool.close()
    assert len(pool.drain()) == 5
    with pytest.raises(UsageError, match="i9"):
        pool.submit(item(9))


def test_a_judge_that_cannot_go_on_gives_every_item_back_at_once() -> None:
    judge = FakeJudge(seconds=0.05, fail={"i3": JudgeError("no quota", hint="pay")})
    slow = FakeJudge.score

    async def score(item_: JudgeItem) -> Verdict:
        if item_.id not in ("i0", "i3"):
            await asyncio.sleep(60)
        return await slow(judge, item_)

    judge.score = score  # type: ignore[method-assign]
    with JudgePool(judge, max_pending=4) as pool:
        start = time.monotonic()
        for number in range(50):
            pool.submit(item(number))
        verdicts = {v.id: v for v in pool.results()}
        assert time.monotonic() - start < 5
        assert pool.fatal is not None
        assert pool.fatal.hint == "pay"
    assert len(verdicts) == 50
    assert verdicts["i0"].score == 3
    assert all(v.score is None and v.reason == "no quota" for k, v in verdicts.items() if k != "i0")


def test_a_broken_judge_is_named_and_loses_nothing() -> None:
    with JudgePool(FakeJudge(fail={"i1": ZeroDivisionError("oops")})) as pool:
        for number in range(10):
            pool.submit(item(number))
        verdicts = list(pool.results())
        assert isinstance(pool.fatal, JudgeError)
        assert "fake" in str(pool.fatal)
        assert "ZeroDivisionError: oops" in str(pool.fatal)
        assert isinstance(pool.fatal.__cause__, ZeroDivisionError)
    assert sorted(v.id for v in verdicts) == sorted(f"i{n}" for n in range(10))


def test_an_exception_stops_the_pool_without_waiting() -> None:
    start = time.monotonic()
    with pytest.raises(KeyError), JudgePool(FakeJudge(seconds=60)) as pool:
        pool.submit(item(0))
        raise KeyError
    assert time.monotonic() - start < 5
    (verdict,) = pool.drain()
    assert (verdict.id, verdict.score) == ("i0", None)
    assert "stopped" in verdict.reason
    assert pool.fatal is None


def test_many_threads_may_submit() -> None:
    pool = JudgePool(RulesJudge(), max_pending=3)
    threads = [
        threading.Thread(target=lambda base=base: [pool.submit(item(base + n)) for n in range(50)])
        for base in range(0, 200, 50)
    ]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    while len(seen) < 200:
        seen += [v.id for v in pool.drain(1.0)]
    for thread in threads:
        thread.join()
    pool.close()
    assert len(set(seen)) == len(seen) == 200


def test_refuses_a_pool_without_room() -> None:
    with pytest.raises(UsageError, match="max_pending is 0"):
        JudgePool(FakeJudge(), max_pending=0)
