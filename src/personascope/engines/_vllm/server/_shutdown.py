"""Shut the server down: requests in flight finish within vLLM's ``--shutdown-timeout``, or get an error.

vLLM stops its engine first and then waits for its HTTP connections without a limit. A request that waits for
a stopped engine would keep its client and the server waiting forever.
"""

# vLLM is not installed in the environment of the type check.
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from vllm.v1.engine.exceptions import EngineDeadError

from personascope.engines._http._answers import ShuttingDownError
from personascope.engines._vllm._version import SUPPORTED
from personascope.errors import EngineError

CUT_AFTER = 5
"""Seconds after which open connections are closed, once the engine has stopped."""

_Value = TypeVar("_Value")


class Shutdown:
    """Shutdown state of the server.

    Attributes:
        begun: Whether the shutdown has begun, so that no new request is accepted.
    """

    def __init__(self) -> None:
        """Begin with a running server; this must be called inside its event loop."""
        self.begun = False
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()

    def watch(self, engine: Any, state: Any, under_way: Callable[[], int]) -> None:
        """Make the shutdown of an engine wait for the requests in flight.

        Args:
            engine: vLLM's ``AsyncLLM``, whose ``shutdown`` the server calls in a thread.
            state: State of the application, which holds the HTTP server.
            under_way: Function that returns the number of requests in flight.

        Raises:
            EngineError: If the engine has no ``shutdown``.
        """
        inner: Callable[..., None] | None = getattr(engine, "shutdown", None)
        if inner is None:
            raise EngineError(f"{type(engine).__name__} has no shutdown", hint=f"install {SUPPORTED}")

        def shutdown(timeout: float | None = None) -> None:
            # vLLM stops its engine a second time at the end, when waiting is of no use.
            wait, self.begun = not self.begun and timeout, True
            until = time.monotonic() + (wait or 0)
            while under_way() and time.monotonic() < until:
                time.sleep(0.05)
            server = getattr(state, "server", None)
            if server is not None and server.config.timeout_graceful_shutdown is None:
                server.config.timeout_graceful_shutdown = CUT_AFTER
            try:
                inner(timeout=max(0.0, until - time.monotonic()) if wait else timeout)
            finally:
                if not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._stopped.set)

        engine.shutdown = shutdown

    def check(self) -> None:
        """Check that new requests are accepted.

        Raises:
            ShuttingDownError: If the server is shutting down.
        """
        if self.begun:
            raise ShuttingDownError

    async def unless_stopped(self, work: Awaitable[_Value]) -> _Value:
        """Await work that needs the engine, and return its result.

        Raises:
            ShuttingDownError: If the engine stops first.
        """
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            return await self._first(work, stopped)
        finally:
            stopped.cancel()

    async def stream_unless_stopped(self, chunks: AsyncIterator[_Value]) -> AsyncIterator[_Value]:
        """Yield the items of a stream that needs the engine.

        Raises:
            ShuttingDownError: If the engine stops before its end.
        """
        stopped = asyncio.ensure_future(self._stopped.wait())
        end: Any = object()
        try:
            while (chunk := await self._first(anext(chunks, end), stopped)) is not end:
                yield chunk
        finally:
            stopped.cancel()

    async def _first(self, work: Awaitable[_Value], stopped: asyncio.Future[Any]) -> _Value:
        """Await work and return its result, or cancel it if the engine stops first.

        Raises:
            ShuttingDownError: If the engine stops first.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ShuttingDownError
            return task.result()
        except EngineDeadError as error:
            # The engine has died of its shutdown, and said so before that returned.
            if self.begun:
                raise ShuttingDownError from error
            raise
        finally:
            if not task.done():
                # The task must have ended, because a stream that still runs cannot be closed.
                task.cancel()
                await asyncio.wait({task})
