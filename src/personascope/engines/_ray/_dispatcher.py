"""Assign requests to workers and collect their results.

A worker has at most one call in progress, which brings it requests and returns results. The requests that it
holds are therefore known exactly: those it was given, minus those with results. If it dies, exactly these
are run again.
"""

from __future__ import annotations

import contextlib
import pickle
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from personascope.chat import ChatOptions, Message
from personascope.engines._checks import refuse_watch
from personascope.engines._contract import Request, ScoreRequest
from personascope.engines._ray import _pool
from personascope.engines._ray._pool import LostError, Pool, WorkerHandle
from personascope.engines._ray._worker import WorkerResult
from personascope.errors import EngineError

WINDOW = 1024
"""Number of requests to read ahead, so that prompts that share a prefix go to the same worker."""


class Dispatcher:
    """Dispatcher that spreads one ``run`` or ``score`` over the workers of a pool."""

    def __init__(
        self,
        pool: Pool,
        method: str,
        requests: Iterable[Request | ScoreRequest],
        *,
        transcript: bool | ChatOptions,
        max_batch: int,
    ) -> None:
        """Prepare without reading any request.

        Args:
            pool: Workers.
            method: "run" or "score".
            requests: Requests to generate or score.
            transcript: Whether conversations are written as a transcript, or options of the chat template.
            max_batch: Number of requests that a worker runs at once; it holds at most twice as many.
        """
        self.pool, self.method, self.transcript = pool, method, transcript
        self.key = uuid.uuid4().hex
        self.source = iter(requests)
        self.most = 2 * max_batch
        self.chunk = max(1, max_batch // 4)
        self.waiting: deque[Request | ScoreRequest] = deque()
        self.open: set[str] = set()
        self.held: dict[int, dict[str, Request | ScoreRequest]] = {
            worker.number: {} for worker in pool.workers
        }
        self.calls: dict[Any, tuple[WorkerHandle, Any]] = {}
        self.deaths: Counter[str] = Counter()

    def results(self) -> Iterator[Any]:
        """Yield results in order of completion.

        Raises:
            EngineError: If two requests have the same id, a worker or a request's workers die too often, or
                a request cannot be honoured.
            PersonascopeError: If the engine of a worker raises one.
        """
        try:
            while True:
                self._read()
                self._assign()
                if not self.calls:
                    return
                ready, _ = self.pool.ray.wait(list(self.calls), num_returns=1)
                worker, actor = self.calls.pop(ready[0])
                try:
                    answer = self.pool.result_of(worker, actor, ready[0])
                except LostError as lost:
                    self._again(worker, str(lost))
                    continue
                yield from self._take(worker, answer)
        finally:
            self._end()

    def _read(self) -> None:
        if len(self.waiting) >= self.chunk * len(self.pool.workers):
            return
        ahead: list[Request | ScoreRequest] = []
        for request in islice(self.source, WINDOW):
            if request.id in self.open:
                raise EngineError(
                    f"two requests are called {request.id!r}", hint="give each request of a run its own id"
                )
            if isinstance(request, Request):
                refuse_watch(request, "ray")
            self.open.add(request.id)
            ahead.append(request)
        self.waiting.extend(sorted(ahead, key=_prompt_order))

    def _assign(self) -> None:
        """Give idle workers the requests that they have room for, the emptiest first, and call them."""
        self.pool.check_open()
        busy = {worker.number for worker, _ in self.calls.values()}
        free = [worker for worker in self.pool.workers if worker.number not in busy]
        # The last requests are also spread over all workers.
        share = -(-len(self.waiting) // len(self.pool.workers))
        chunk = max(1, min(self.chunk, share))
        given: dict[int, list[Request | ScoreRequest]] = {worker.number: [] for worker in free}
        while self.waiting and free:
            worker = min(free, key=lambda worker: len(self.held[worker.number]))
            held = self.held[worker.number]
            if len(held) + chunk > self.most:
                break
            for _ in range(min(chunk, len(self.waiting))):
                request = self.waiting.popleft()
                held[request.id] = request
                given[worker.number].append(request)
        for worker in free:
            if self.held[worker.number]:
                packed = pickle.dumps(given[worker.number], protocol=5)
                ref = worker.actor.turn.remote(self.key, self.method, self.transcript, packed)
                self.calls[ref] = (worker, worker.actor)

    def _take(self, worker: WorkerHandle, answer: WorkerResult) -> Iterator[Any]:
        held = self.held[worker.number]
        for result in answer.results:
            if held.pop(result.id, None) is None:
                raise EngineError(f"worker {worker.number} answered {result.id!r}, which it was not asked")
            self.open.discard(result.id)
            self.deaths.pop(result.id, None)
        # The bookkeeping is done first, because the consumer may stop at any result.
        yield from answer.results
        if answer.error is not None:
            raise answer.error
        if answer.idle and held:
            raise EngineError(
                f"worker {worker.number} returned nothing for {len(held)} requests, such as {min(held)!r}",
                hint="report this with the engine's name and version",
            )

    def _again(self, worker: WorkerHandle, cause: str) -> None:
        """Put the requests of a dead worker at the front of the queue."""
        held = self.held[worker.number]
        self.deaths.update(held.keys())
        for name in held:
            if self.deaths[name] > _pool.MAX_DEATHS:
                raise EngineError(
                    f"request {name!r} was on a worker that died, {self.deaths[name]} times: {cause}",
                    hint="a shorter prompt, fewer new tokens or a smaller --max-batch need less memory",
                )
        self.waiting.extendleft(reversed(held.values()))
        held.clear()

    def _end(self) -> None:
        """Tell the workers to drop this run."""
        self.calls.clear()
        if self.pool.closed:
            return
        for worker in self.pool.workers:
            with contextlib.suppress(self.pool.ray.exceptions.RayError):
                worker.actor.drop.remote(self.key)


def _prompt_order(request: Request | ScoreRequest) -> tuple[bool, tuple[Any, ...]]:
    """Return a sort key that puts prompts with the same beginning together: texts, or token ids."""
    prompt = request.prompt
    conversation = tuple((m.role, m.content) for m in prompt if isinstance(m, Message))
    return (True, conversation) if conversation else (False, tuple(prompt))
