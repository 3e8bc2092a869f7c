"""A batch that requests join and leave while it runs, for a server that hears them one by one.

`TransformersEngine.run` reads its requests ahead from an iterable and waits for it. Here nothing waits: a
request enters with the next step, its tokens are told as they are known, and it may be dropped at any time.
A request is generated as ``run`` would generate it.
"""

# pyright: reportPrivateUsage=false
# A live batch uses private attributes of its engine.
from __future__ import annotations

import logging
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from personascope.chat import ReplyFormat
from personascope.engines._contract import Completion, Request
from personascope.engines._transformers._batch import Batch, Ended
from personascope.engines._transformers._finite import Failures
from personascope.engines._transformers._rows import Queued, Row
from personascope.errors import EngineError

if TYPE_CHECKING:
    from personascope.engines._transformers._engine import TransformersEngine

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LiveRequest:
    """A request in a live batch.

    Attributes:
        request: Request as given; its id need not be unique here.
        prompt_tokens: Number of tokens of the rendered prompt.
        reply: Format of the response's parts; None if it is all answer.
        told: Number of response tokens that were told so far.
    """

    request: Request
    prompt_tokens: int
    reply: ReplyFormat | None
    told: int = 0
    _queued: Queued | None = None


@dataclass(frozen=True, slots=True)
class LiveTokens:
    """New tokens of a response.

    A token is told once its projections are known; without probes, once it is drawn. At a stop text or the
    end of a turn the newest tokens may come with the end alone.

    Attributes:
        live: Request of the response.
        tokens: Token ids.
        projections: Projection of each token on each probe of the request; empty without probes.
        before: The same before the plan's operations at the probes' layers.
    """

    live: LiveRequest
    tokens: tuple[int, ...]
    projections: tuple[tuple[float, ...], ...]
    before: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class LiveEnd:
    """End of a response.

    Attributes:
        live: Request of the response.
        completion: Completion; None if the request failed.
        error: Reason of the failure; None if there is a completion.
    """

    live: LiveRequest
    completion: Completion | None
    error: EngineError | None = None


class LiveBatch:
    """Batch of requests that join and leave while it runs; used by one thread at a time.

    Tokens are projected on the probes of their request both before and after its plan acts.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        """Begin without requests; the engine must not be used otherwise while there are some."""
        self._engine = engine
        self._waiting: deque[Queued] = deque()
        self._live: dict[int, LiveRequest] = {}
        self._limit = engine.max_batch
        self._batch: Batch | None = None
        self._hooks = ExitStack()

    def __len__(self) -> int:
        """Return the number of requests that have not ended."""
        return len(self._live)

    def submit(self, request: Request) -> LiveRequest:
        """Check and render a request, which starts with the next step.

        Raises:
            EngineError: If the request cannot be honoured.
            ChatError: If its conversation cannot be rendered.
        """
        queued = self._engine._queue(request)
        live = LiveRequest(request, len(queued.prompt), queued.reply, _queued=queued)
        self._live[id(queued)] = live
        self._waiting.append(queued)
        return live

    def drop(self, live: LiveRequest) -> None:
        """End a request without a completion; one that has ended stays as it is."""
        queued = live._queued
        if queued is None or self._live.pop(id(queued), None) is None:
            return
        live._queued = None
        if queued in self._waiting:
            self._waiting.remove(queued)
            return
        batch = self._batch
        for row in [] if batch is None else batch.rows:
            if batch is not None and row.queued is queued:
                batch.drop(row)
                break
        self._close_if_idle()

    def step(self) -> list[LiveTokens | LiveEnd]:
        """Start waiting requests, pass one token of every running one, and return what is new.

        An error that is not of a single request ends all that run with it, and the batch goes on empty.
        """
        if not self._live:
            return []
        if self._batch is None:
            self._open()
        batch = self._batch
        assert batch is not None
        try:
            ended = batch.enter(self._waiting) or []
            running = {id(row.queued): row for row in batch.rows}
            ended += batch.advance()
        except Exception as error:
            # Whatever went wrong, the requests that ran must be answered, and later ones served.
            return self._halve(batch, error) if out_of_memory(error) else self._fail(batch, error)
        told: list[LiveTokens | LiveEnd] = []
        for key, row in running.items():
            told += self._tokens(self._live[key], row)
        for end in ended:
            told.append(self._end(end))
        self._close_if_idle()
        return told

    def _open(self) -> None:
        engine = self._engine
        self._hooks.enter_context(engine._taps.attached())
        self._batch = Batch(
            engine.loaded,
            engine._taps,
            engine._memory,
            engine._stops,
            Failures(engine.loaded.dtype),
            limit=self._limit,
            budget=engine.prefill_tokens,
        )
        self._batch.reader.reads_before = True

    def _close(self) -> None:
        self._batch = None
        self._hooks.close()

    def _close_if_idle(self) -> None:
        if not self._live:
            # Buffers are freed while nothing runs.
            self._close()

    def _tokens(self, live: LiveRequest, row: Row) -> list[LiveTokens]:
        known = row.fed if row.watched else len(row.tokens)
        first, live.told = live.told, max(live.told, known)
        if known <= first:
            return []
        new = slice(first, known)
        read = bool(row.queued.request.probes)
        after = tuple(map(tuple, row.projections[new])) if read else ()
        before = tuple(map(tuple, row.before[new])) if read else ()
        return [LiveTokens(live, tuple(row.tokens[new]), after, before)]

    def _end(self, end: Ended) -> LiveEnd:
        live = self._live.pop(id(end.row.queued))
        live._queued = None
        if end.completion is not None:
            return LiveEnd(live, end.completion)
        failures = Failures(self._engine.loaded.dtype)
        failures.add(live.request)
        try:
            failures.check()
        except EngineError as error:
            return LiveEnd(live, None, error)
        raise AssertionError("a failure was recorded")

    def _fail(self, batch: Batch, error: Exception) -> list[LiveTokens | LiveEnd]:
        """End all requests that run or were entering with an error."""
        log.exception("the batch failed", exc_info=error)
        told = (
            error
            if isinstance(error, EngineError)
            else EngineError(f"the model failed: {error}".split("\n")[0], hint="see the log of the server")
        )
        ended: list[LiveTokens | LiveEnd] = []
        for queued in [*(row.queued for row in batch.rows), *batch.entering]:
            live = self._live.pop(id(queued), None)
            if live is not None:
                live._queued = None
                ended.append(LiveEnd(live, None, told))
        self._close()
        return ended

    def _halve(self, batch: Batch, error: Exception) -> list[LiveTokens | LiveEnd]:
        """Return the running requests to the queue, and run half as many together from now on."""
        if self._limit == 1:
            return self._fail(batch, error)
        again = [*(row.queued for row in batch.rows), *batch.entering]
        self._waiting.extendleft(reversed([queued for queued in again if id(queued) in self._live]))
        self._limit = max(1, self._limit // 2)
        log.warning("out of memory: the batch is halved to %d rows", self._limit)
        self._close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return []


def out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
