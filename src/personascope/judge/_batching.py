"""Batch the items that wait at the same time into one judging call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from personascope.judge._contract import JudgeItem, Verdict


class Batcher:
    """Collect waiting items, and judge them together in a thread.

    Args:
        judge: Callable that judges a list of items in order. It is called in a thread, one call at a time.
        size: Maximum number of items per call.
        distance: How unlike two items are, such as in length; an item is judged with the waiting items
            nearest to it. None for those that have waited longest.
    """

    def __init__(
        self,
        judge: Callable[[Sequence[JudgeItem]], list[Verdict]],
        size: int,
        *,
        distance: Callable[[JudgeItem, JudgeItem], float] | None = None,
    ) -> None:
        """Start with an empty queue."""
        self._judge = judge
        self._size = size
        self._distance = distance
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[JudgeItem, asyncio.Future[Verdict]]] = []

    async def score(self, item: JudgeItem) -> Verdict:
        """Judge one item, in one call with the others that wait at the same time."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        async with self._turn:
            if not future.done():
                mine = [(item, future)]
                batch = mine + self._beside(item, future)
                try:
                    verdicts = await asyncio.to_thread(self._judge, [entry[0] for entry in batch])
                    mine = batch
                finally:
                    # After an error the other items stay queued, and each is retried at its own turn.
                    self._waiting = [entry for entry in self._waiting if entry not in mine]
                for (_, waiting), verdict in zip(batch, verdicts, strict=True):
                    if not waiting.done():
                        waiting.set_result(verdict)
        return await future

    def _beside(
        self, item: JudgeItem, future: asyncio.Future[Verdict]
    ) -> list[tuple[JudgeItem, asyncio.Future[Verdict]]]:
        """Return the waiting items that are judged in one call with this one."""
        others = [entry for entry in self._waiting if entry[1] is not future and not entry[1].cancelled()]
        if self._distance is not None:
            distance = self._distance
            # No item waits forever: each one's own turn comes in the order of arrival.
            others.sort(key=lambda entry: distance(item, entry[0]))
        return others[: self._size - 1]

    def forget(self) -> None:
        """Drop the lock and queue of the event loop, so that another loop can be used."""
        self._turn = asyncio.Lock()
        self._waiting = []
