"""What the routes of a server share: engine, worker, plans, map, monitor, and whether it is shutting down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from personascope.dynamics.monitor import Monitor
from personascope.engines import (
    Access,
    Completion,
    LiveEnd,
    LiveRequest,
    LiveTokens,
    Metrics,
    PlanBook,
    Policy,
    ProbeSet,
    Rules,
    ShuttingDownError,
    TransformersEngine,
)
from personascope.errors import EngineError, PersonascopeError
from personascope.live._ask import Admission, Asked
from personascope.live._reply import Piece, Reply
from personascope.live._worker import BatchWorker, Heard, Refused


@dataclass(frozen=True, slots=True)
class Failed:
    """End of a request without a reply.

    Attributes:
        status: HTTP status.
        error: Reason.
    """

    status: int
    error: PersonascopeError


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """End of a reply.

    Attributes:
        completion: Completion of the engine.
        piece: Rest of the reply.
        totals: Totals of its field.
    """

    completion: Completion
    piece: Piece
    totals: dict[str, Any]


Step = Reply | Piece | Finished | Failed
"""What comes of a request: the reply once it is accepted, its pieces, and its end."""


class Service:
    """State of a server.

    Attributes:
        admission: Checks of requests.
        monitor: Drift monitor that conversations are checked with; None without one.
        access: Policy, limits, metrics and logs.
        uploads: Whether plans and probes may be uploaded.
        draining: Whether the server is shutting down, so that no new request is accepted.
        under_way: Number of requests without an end.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        admission: Admission,
        *,
        monitor: Monitor | None = None,
        api_key: str | None = None,
        policy: Policy | None = None,
        allow_upload: bool = False,
        log_texts: bool = False,
    ) -> None:
        """Start the worker.

        Args:
            engine: Engine of the model, which nothing else may use from now on.
            admission: Checks of requests.
            monitor: Drift monitor.
            api_key: Key that clients must send; None for no key.
            policy: Keys and rules, instead of one key.
            allow_upload: Whether to accept uploads without a key.
            log_texts: Whether the log has the texts of requests and replies.

        Raises:
            UsageError: If the policy speaks of a plan that does not exist.
        """
        policy = policy or Policy.of_key(api_key)
        admission.plans.apply(policy)
        self.admission = admission
        self.monitor = monitor
        self.uploads = bool(policy.keys) or allow_upload
        self.access = Access(
            policy,
            Metrics(CollectorRegistry()),
            lambda rules: admission.plans.plan_of(rules) is not None,
            log_texts=log_texts,
        )
        self.draining = False
        self.under_way = 0
        self._engine = engine
        self._worker = BatchWorker(engine.open_batch)
        self.access.metrics.watch(
            ready=lambda: self.ready, waiting=lambda: max(0, self.under_way - self.running)
        )

    @property
    def ready(self) -> bool:
        """Whether requests are accepted."""
        return self._worker.alive and not self.draining

    @property
    def running(self) -> int:
        """Number of requests in the batch."""
        return self._worker.running

    @property
    def book(self) -> PlanBook:
        """Plans that requests may name."""
        return self.admission.plans

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that probes fit the model (`Admission.check_probes`)."""
        self.admission.check_probes(probes)

    def forget(self, digest: str) -> None:
        """Drop an entry that was deleted; requests read probes from the store, so nothing is left to drop."""

    @property
    def metrics(self) -> Metrics:
        """Metrics of the server."""
        return self.access.metrics

    def described(self) -> dict[str, Any]:
        """Return model and engine as JSON values, and in ``reads`` what can be read of replies."""
        info = self.admission.info
        return {
            "model": self.admission.model,
            "engine": info.engine,
            "dtype": info.dtype,
            "n_layers": info.n_layers,
            "context": info.context,
            "reads": {"before": True, "layers": True, "last_token": True},
        }

    async def stats(self) -> dict[str, Any]:
        """Return what is under way, as JSON values."""
        return {"under_way": self.under_way, "running": self.running, "draining": self.draining}

    @property
    def healthy(self) -> bool:
        """Whether the thread that generates is alive."""
        return self._worker.alive

    async def ask(self, body: Any, rules: Rules | None = None) -> Asked:
        """Check a request.

        Raises:
            PersonascopeError: If it cannot be honoured.
        """
        if not self.ready:
            raise ShuttingDownError
        # A plan may be read from the disk, or made from kept responses.
        return await asyncio.to_thread(
            self.admission.ask, body, lambda text: self._engine.encode(text, special=True), rules
        )

    async def run(self, asked: Asked) -> AsyncGenerator[Step]:
        """Yield what comes of a request; it leaves the batch when the iterator is closed."""
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[Step] = asyncio.Queue()
        reply: Reply | None = None

        def listen(heard: Heard) -> None:
            nonlocal reply
            step: Step
            if isinstance(heard, LiveRequest):
                step = reply = Reply(asked, heard, self._engine.loaded.tokenizer)
            elif isinstance(heard, LiveTokens):
                assert reply is not None
                step = reply.tokens(heard)
                if not (step.content or step.reasoning or step.told):
                    return
            elif isinstance(heard, LiveEnd) and heard.completion is not None:
                assert reply is not None
                step = Finished(heard.completion, *reply.end(heard.completion))
            else:
                step = _failed(heard)
            with suppress(RuntimeError):  # The loop has ended, and with it everybody who listens.
                loop.call_soon_threadsafe(steps.put_nowait, step)

        if not self.ready:
            yield Failed(503, ShuttingDownError())
            return
        self.under_way += 1
        ticket = self._worker.submit(asked.request, listen)
        try:
            while True:
                step = await steps.get()
                yield step
                if isinstance(step, Finished | Failed):
                    return
        finally:
            self.under_way -= 1
            self._worker.leave(ticket)

    def stop(self) -> None:
        """End all requests with an error, and the worker."""
        self.draining = True
        self._worker.close(ShuttingDownError())


async def collect(steps: AsyncGenerator[Step]) -> tuple[list[Piece], Finished | Failed]:
    """Return all pieces of a reply, and its end."""
    pieces: list[Piece] = []
    async for step in steps:
        if isinstance(step, Piece):
            pieces.append(step)
        elif isinstance(step, Finished):
            return [*pieces, step.piece], step
        elif isinstance(step, Failed):
            return pieces, step
    raise EngineError("the reply ended without an end", hint="report this")


def _failed(heard: LiveEnd | Refused) -> Failed:
    if isinstance(heard, Refused):
        return Failed(400, heard.error)
    assert heard.error is not None
    return Failed(503 if isinstance(heard.error, ShuttingDownError) else 500, heard.error)
