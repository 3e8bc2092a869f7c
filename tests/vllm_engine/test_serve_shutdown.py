"""What waits for an engine that is told to stop: it gets an end, and the engine waits for what it may."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from vllm.v1.engine.exceptions import EngineDeadError

from personascope.engines import ShuttingDownError
from personascope.engines._vllm.server._shutdown import CUT_AFTER, Shutdown


class Engine:
    """An engine that says with how much time it was stopped."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def shutdown(self, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)


def web_server() -> Any:
    return SimpleNamespace(server=SimpleNamespace(config=SimpleNamespace(timeout_graceful_shutdown=None)))


async def stop(engine: Any, timeout: float | None) -> None:
    """Stop the engine as vLLM's launcher does, in a thread."""
    await asyncio.get_running_loop().run_in_executor(None, lambda: engine.shutdown(timeout=timeout))


def test_what_waits_for_a_stopped_engine_gets_an_error() -> None:
    async def never() -> None:
        await asyncio.sleep(1000)

    closed: list[str] = []

    async def chunks() -> AsyncIterator[str]:
        try:
            yield "one"
            await never()
        finally:
            closed.append("closed")

    async def main() -> None:
        engine, state, shutdown = Engine(), web_server(), Shutdown()
        shutdown.watch(engine, state, lambda: 1)
        shutdown.check()
        assert await shutdown.unless_stopped(asyncio.sleep(0, "done")) == "done"
        waiting = asyncio.ensure_future(shutdown.unless_stopped(never()))
        stream = shutdown.stream_unless_stopped(chunks())
        assert await anext(stream) == "one"
        more = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await stop(engine, 0)
        for task in (waiting, more):
            with pytest.raises(ShuttingDownError, match="shutting down"):
                await asyncio.wait_for(task, 5)
        # Its end was waited for, so that it can be closed.
        assert closed == ["closed"]
        with pytest.raises(ShuttingDownError):
            shutdown.check()
        assert engine.timeouts == [0]
        assert state.server.config.timeout_graceful_shutdown == CUT_AFTER

    asyncio.run(main())


def test_the_engine_is_stopped_once_nothing_is_under_way() -> None:
    async def main() -> None:
        engine, shutdown, left = Engine(), Shutdown(), [2]
        shutdown.watch(engine, SimpleNamespace(), lambda: left[0])
        threading.Timer(0.3, lambda: left.__setitem__(0, 0)).start()
        begin = time.monotonic()
        await stop(engine, 30)
        assert 0.25 < time.monotonic() - begin < 10
        # What is left of the time is the engine's.
        assert engine.timeouts[0] is not None and 20 < engine.timeouts[0] < 30

    asyncio.run(main())


def test_the_wait_has_an_end() -> None:
    async def main() -> None:
        engine, shutdown = Engine(), Shutdown()
        shutdown.watch(engine, SimpleNamespace(), lambda: 1)
        begin = time.monotonic()
        await stop(engine, 0.3)
        assert 0.25 < time.monotonic() - begin < 10
        # The second time nothing is waited for.
        begin = time.monotonic()
        await stop(engine, 30)
        assert time.monotonic() - begin < 5
        assert engine.timeouts == [0, 30]

    asyncio.run(main())


def test_a_stream_that_ends_ends() -> None:
    async def chunks() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def main() -> None:
        assert [chunk async for chunk in Shutdown().stream_unless_stopped(chunks())] == [0, 1, 2]

    asyncio.run(main())


def test_an_engine_that_dies_of_the_shutdown_is_a_server_that_shuts_down() -> None:
    async def dead() -> None:
        raise EngineDeadError

    async def main() -> None:
        engine, shutdown = Engine(), Shutdown()
        shutdown.watch(engine, SimpleNamespace(), lambda: 0)
        # A crash of the engine is not hidden.
        with pytest.raises(EngineDeadError):
            await shutdown.unless_stopped(dead())
        shutdown.begun = True
        with pytest.raises(ShuttingDownError, match="shutting down"):
            await shutdown.unless_stopped(dead())

    asyncio.run(main())
