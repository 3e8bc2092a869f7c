"""The thread that runs a live batch, and what it tells the listeners of its requests."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from personascope.engines import LiveBatch, LiveEnd, LiveRequest, LiveTokens, Request
from personascope.errors import EngineError, PersonascopeError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that cannot be honoured.

    Attributes:
        error: Reason.
    """

    error: PersonascopeError


Heard = LiveRequest | LiveTokens | LiveEnd | Refused
"""What a listener is told, in this order: the request once it is accepted, its tokens, its end."""

Listener = Callable[[Heard], None]


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was handed to the worker."""

    listener: Listener
    live: LiveRequest | None = None
    left: bool = False


class BatchWorker:
    """Thread that owns a live batch.

    Requests are handed over from any thread and start with the batch's next step. Listeners are called in
    the worker's thread.
    """

    def __init__(self, open_batch: Callable[[], LiveBatch]) -> None:
        """Start the thread, which waits for requests."""
        self._batch = open_batch()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._tickets: dict[LiveRequest, Ticket] = {}
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="personascope-batch", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Number of requests that the batch holds."""
        return len(self._batch)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, request: Request, listener: Listener) -> Ticket:
        """Hand over a request; everything else reaches its listener."""
        ticket = Ticket(listener)
        self._jobs.put(lambda: self._enter(ticket, request))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """End a request whose client has gone; its listener hears nothing more."""
        ticket.left = True
        self._jobs.put(lambda: self._drop(ticket))

    def close(self, error: EngineError) -> None:
        """End all requests with an error, and then the thread."""

        def end() -> None:
            self._ending = True
            for live, ticket in list(self._tickets.items()):
                self._batch.drop(live)
                ticket.listener(LiveEnd(live, None, error))
            self._tickets.clear()

        self._jobs.put(end)
        self._thread.join(30)

    def _run(self) -> None:
        while not self._ending:
            self._take_jobs(wait=not len(self._batch))
            for event in self._batch.step():
                ticket = self._tickets.get(event.live)
                if isinstance(event, LiveEnd):
                    self._tickets.pop(event.live, None)
                # A reply that could not be written has left within this step.
                if ticket is not None and not ticket.left:
                    self._tell(ticket, event)

    def _take_jobs(self, *, wait: bool) -> None:
        try:
            self._jobs.get(block=wait)()
            while not self._ending:
                self._jobs.get_nowait()()
        except queue.Empty:
            return

    def _enter(self, ticket: Ticket, request: Request) -> None:
        if ticket.left:
            return
        try:
            live = self._batch.submit(request)
        except PersonascopeError as error:
            ticket.listener(Refused(error))
            return
        except Exception as error:
            # A chat template is a program, and may fail in any way on what a client sends.
            log.exception("a request cannot be rendered")
            ticket.listener(Refused(EngineError(f"the request cannot be rendered: {error}"[:300])))
            return
        ticket.live = live
        self._tickets[live] = ticket
        self._tell(ticket, live)

    def _drop(self, ticket: Ticket) -> None:
        if ticket.live is not None and self._tickets.pop(ticket.live, None) is not None:
            self._batch.drop(ticket.live)

    def _tell(self, ticket: Ticket, event: LiveRequest | LiveTokens | LiveEnd) -> None:
        try:
            ticket.listener(event)
        except Exception as error:
            # One reply that cannot be written must not end the others.
            log.exception("a reply cannot be written")
            assert ticket.live is not None
            told = EngineError(f"the reply cannot be written: {error}"[:300])
            ticket.listener(LiveEnd(ticket.live, None, told))
            self._drop(ticket)
