"""Run a judge alongside generation, on an event loop and in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from personascope.errors import JudgeError, UsageError
from personascope.judge._contract import Judge, JudgeItem, JudgeStats, Verdict


class JudgePool:
    """Judge items in a thread while other threads work; every item gives exactly one verdict.

    A judge that cannot go on sets `fatal`. The items in flight and all later ones then come back at once
    without a score, with the error as their reason. Use the pool as a context manager: a normal exit waits
    for the items in flight, an exit by an exception stops them.

    Args:
        judge: Judge to run; the pool closes it.
        max_pending: Maximum number of items in flight; `submit` blocks beyond that. Verdicts that are ready
            but not yet taken do not count.

    Raises:
        UsageError: If ``max_pending`` is below 1.
    """

    def __init__(self, judge: Judge, *, max_pending: int = 64) -> None:
        """Start the judge's thread."""
        if max_pending < 1:
            raise UsageError(f"max_pending is {max_pending}", hint="give 1 or more")
        self._judge = judge
        self._slots = threading.Semaphore(max_pending)
        self._done: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._closed = False
        self._fatal: JudgeError | None = None
        self._stopped: JudgeError | None = None
        self._tasks: set[asyncio.Task[Verdict]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="personascope-judge", daemon=True)
        self._thread.start()

    @property
    def fatal(self) -> JudgeError | None:
        """Error that keeps the judge from going on, or None."""
        return self._fatal

    @property
    def pending(self) -> int:
        """Number of items that were submitted and whose verdict was not taken yet."""
        return self._pending

    @property
    def stats(self) -> JudgeStats:
        """Statistics of the judge."""
        return self._judge.stats

    def submit(self, item: JudgeItem) -> None:
        """Submit an item; block while ``max_pending`` items are in flight.

        Raises:
            UsageError: If the pool is closed.
        """
        self._slots.acquire()
        with self._lock:
            if self._closed:
                self._slots.release()
                raise UsageError(f"item {item.id} was submitted to a closed judge pool")
            self._pending += 1
            self._loop.call_soon_threadsafe(self._start, item)

    def drain(self, timeout: float | None = 0.0) -> list[Verdict]:
        """Take the verdicts that are ready, in the order in which they were reached.

        Args:
            timeout: Seconds to wait for a first verdict if none is ready and some are pending; None waits
                without a limit.
        """
        verdicts: list[Verdict] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._pending > len(verdicts):
            try:
                verdicts.append(self._done.get_nowait())
            except queue.Empty:
                if verdicts or (deadline is not None and time.monotonic() >= deadline):
                    break
                # Wait in short steps, because another thread may take the last verdict meanwhile.
                left = 0.1 if deadline is None else min(0.1, max(deadline - time.monotonic(), 0.001))
                with contextlib.suppress(queue.Empty):
                    verdicts.append(self._done.get(timeout=left))
        with self._lock:
            self._pending -= len(verdicts)
        return verdicts

    def results(self) -> Iterator[Verdict]:
        """Yield verdicts until every item has one, including those submitted meanwhile."""
        while self._pending:
            yield from self.drain(None)

    def label(self, items: Iterable[JudgeItem]) -> Iterator[Verdict]:
        """Submit items, and yield verdicts as they come until every item has one."""
        for item in items:
            self.submit(item)
            yield from self.drain()
        yield from self.results()

    def close(self, *, cancel: bool = False) -> None:
        """Wait for the items in flight, then end the thread; untaken verdicts can still be drained.

        Args:
            cancel: Whether to stop at once; items in flight then come back without a score.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if cancel:
            stop = JudgeError("judging was stopped before this item was scored")
            self._loop.call_soon_threadsafe(self._stop, stop)
        try:
            asyncio.run_coroutine_threadsafe(self._finish_all(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> JudgePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(cancel=error is not None)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def _start(self, item: JudgeItem) -> None:
        if self._stopped is not None:
            self._give(self._unscored(item, self._stopped))
            return
        task = self._loop.create_task(self._judge.score(item))
        self._tasks.add(task)
        # A callback runs however the task ends, even when it is cancelled before its first step.
        task.add_done_callback(lambda done: self._end(item, done))

    def _end(self, item: JudgeItem, task: asyncio.Task[Verdict]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            reason = self._stopped or JudgeError("judging was stopped before this item was scored")
            self._give(self._unscored(item, reason))
            return
        error = task.exception()
        if error is None:
            self._give(task.result())
            return
        if not isinstance(error, JudgeError):
            broken = JudgeError(
                f"the judge {self._judge.name} broke on item {item.id}: {type(error).__name__}: {error}"
            )
            broken.__cause__ = error
            error = broken
        if self._fatal is None and self._stopped is None:
            self._fatal = error
        self._give(self._unscored(item, error))
        self._stop(error)

    def _stop(self, reason: JudgeError) -> None:
        self._stopped = self._stopped or reason
        for task in self._tasks:
            task.cancel()

    def _unscored(self, item: JudgeItem, reason: JudgeError) -> Verdict:
        return Verdict(item.id, None, reason.message, self._judge.name)

    def _give(self, verdict: Verdict) -> None:
        self._done.put(verdict)
        self._slots.release()

    async def _finish_all(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)
        await self._judge.aclose()
