"""Run the application, and on SIGTERM let what is under way end within a deadline."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from types import FrameType

import uvicorn

from personascope.engines import log_to_stderr
from personascope.errors import UsageError
from personascope.live._app import make_app
from personascope.live._service import Service

CUT_AFTER = 5
"""Seconds after which open connections are closed, once everything under way has ended."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        UsageError: If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        raise UsageError(
            f"{host}:{port} cannot be listened at: {error}", hint="choose another --port or --host"
        ) from error
    return bound


def serve(service: Service, listening: socket.socket, *, drain: float, access_log: bool = True) -> None:
    """Answer requests until a signal ends the server.

    On SIGTERM or SIGINT no new request is accepted (503). Requests under way have ``drain`` seconds. What is
    not done then gets status 503, or in a stream an error event. A second signal ends the server at once.

    Args:
        service: State of the server.
        listening: Bound socket.
        drain: Seconds.
        access_log: Whether to log a line for each request, without its texts.
    """
    if access_log:
        log_to_stderr()
    config = uvicorn.Config(
        make_app(service),
        # The guard logs every request, with its plan.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CUT_AFTER,
        log_level="info" if access_log else "warning",
    )
    asyncio.run(DrainingServer(config, service, drain).serve(sockets=[listening]))


class DrainingServer(uvicorn.Server):
    """Server that goes on answering while what is under way ends."""

    def __init__(self, config: uvicorn.Config, service: Service, drain: float) -> None:
        """Begin without a signal."""
        super().__init__(config)
        self._service = service
        self._drain = drain
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal, end at once."""
        del frame
        if self._until is not None:
            self._until = time.monotonic()
            self.force_exit = sig == signal.SIGINT
            return
        self._service.draining = True
        self._until = time.monotonic() + self._drain

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end: after the signal, once nothing is under way or the time is over."""
        over = await super().on_tick(counter)
        if self._until is None or over:
            return over
        if self._service.under_way and time.monotonic() < self._until:
            return False
        await asyncio.to_thread(self._service.stop)
        return True
