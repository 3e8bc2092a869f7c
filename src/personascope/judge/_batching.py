"""Serving items that wait at the same time by one call for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from personascope.judge._contract import JudgeItem, Verdict


class Batcher:
    """Collects the items that wait, and has them judged together in a thread.

    Args:
        judge: Judges a list of items in their order; called in a thread, one call at a time.
        size: Items in a call at most.
    """

    def __init__(self, judge: Callable[[Sequence[JudgeItem]], list[Verdict]], size: int) -> None:
        """Start with nothing waiting."""
        self._judge = judge
        self._size = size
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[JudgeItem, asyncio.Future[Verdict]]] = []

    async def score(self, item: JudgeItem) -> Verdict:
        """Judge one item, in a call with others that wait at the same time."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        async with self._turn:
            if not future.done():
                # Whoever waited before this item has been served, so it is among the first.
                batch = [entry for entry in self._waiting if not entry[1].cancelled()][: self._size]
                mine = [(item, future)]
                try:
                    verdicts = await asyncio.to_thread(self._judge, [entry[0] for entry in batch])
                    mine = batch
                finally:
                    # After an error the others stay, and try again when it is their turn.
                    self._waiting = [entry for entry in self._waiting if entry not in mine]
                for (_, waiting), verdict in zip(batch, verdicts, strict=True):
                    if not waiting.done():
                        waiting.set_result(verdict)
        return await future

    def forget(self) -> None:
        """Forget the event loop that the items waited in."""
        self._turn = asyncio.Lock()
        self._waiting = []
