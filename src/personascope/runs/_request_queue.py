"""A queue that gathers single concurrent calls into batches for one engine."""

from __future__ import annotations

import atexit
import hashlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from personascope.chat import Conversation, Message
from personascope.engines import Completion, Engine, Request, Sampling, Scored, ScoreRequest
from personascope.errors import EngineError, PersonascopeError, UsageError
from personascope.interventions import Plan
from personascope.runs._requests import check_applied

Prompt = Conversation | tuple[int, ...]


class RequestNames:
    """Request ids that depend on the prompt alone, not on timing or batch.

    An engine seeds a request's sampling by its id, so the n-th request with the same prompt is sampled alike
    in every run and under every plan.
    """

    def __init__(self) -> None:
        """Start with no prompt counted."""
        self._asked: Counter[str] = Counter()

    def name(self, prompt: Prompt) -> str:
        """Return a new id: the prompt's digest and the number of earlier requests with that prompt."""
        parts = [[p.role, p.content] if isinstance(p, Message) else int(p) for p in prompt]
        digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest] - 1}"


@dataclass(slots=True, eq=False)
class _Job:
    """A request and the future of its result."""

    request: Request | ScoreRequest
    future: Future[Any] = field(default_factory=Future[Any])


class RequestQueue:
    """Run an engine in its own thread, on batches of the requests that have arrived.

    Every request gets its result or its own error: if one request of a batch is refused, the others are run
    without it. Only this thread uses the engine. It starts with the first request, and ends with `close` or
    the interpreter.

    Args:
        engine: Engine to run; the caller keeps ownership.
        linger: Seconds without a new request after which a batch starts.
        patience: Maximum seconds that a batch waits for further requests.
        most: Maximum number of requests per batch.

    Raises:
        UsageError: If the numbers are inconsistent.
    """

    def __init__(
        self, engine: Engine, *, linger: float = 0.03, patience: float = 0.3, most: int = 1024
    ) -> None:
        """Check and store the settings; the thread is not started yet."""
        if not 0 <= linger <= patience or most < 1:
            raise UsageError(
                f"a batcher was given linger {linger}, patience {patience} and most {most}",
                hint="give 0 <= linger <= patience, in seconds, and at least one request a batch",
            )
        self.engine = engine
        self._linger, self._patience, self._most = linger, patience, most
        self._names = RequestNames()
        self._waiting: deque[_Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def generate(
        self, prompt: Prompt, sampling: Sampling, *, plan: Plan | None = None, seed: int = 0
    ) -> Future[Completion]:
        """Request one response.

        Returns:
            A future of the completion, or of this request's error: an EngineError if the engine did not apply
            the plan, or whatever the engine raised.

        Raises:
            UsageError: If the queue is closed.
        """
        return self._put(lambda name: Request(name, prompt, sampling=sampling, plan=plan, seed=seed), prompt)

    def score(
        self, prompt: Prompt, continuation: tuple[int, ...], *, plan: Plan | None = None
    ) -> Future[Scored]:
        """Request the log-probabilities of one continuation; otherwise like ``generate``."""
        return self._put(lambda name: ScoreRequest(name, prompt, continuation, plan=plan), prompt)

    def close(self, timeout: float | None = 10.0) -> None:
        """Cancel unfinished requests and end the thread.

        Waiting requests are cancelled, and running ones get a UsageError. Every future is resolved, unless
        the engine returns no result within the timeout.

        Args:
            timeout: Seconds to wait for the engine's next result.
        """
        with self._news:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._news.notify_all()
        for job in waiting:
            job.future.cancel()
        atexit.unregister(self.close)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _put(self, make: Callable[[str], Request | ScoreRequest], prompt: Prompt) -> Future[Any]:
        with self._news:
            if self._closed:
                raise UsageError("a request came in after its model was closed", hint="open the model again")
            job = _Job(make(self._names.name(prompt)))
            self._waiting.append(job)
            if self._thread is None:
                # A daemon thread, so that a program that exits without closing does not hang.
                self._thread = threading.Thread(target=self._work, name="personascope-batch", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._news.notify_all()
        return job.future

    def _work(self) -> None:
        while jobs := self._gather():
            started = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            self._run([job for job in started if isinstance(job.request, Request)], self.engine.run)
            self._run([job for job in started if isinstance(job.request, ScoreRequest)], self.engine.score)

    def _gather(self) -> list[_Job]:
        """Wait for requests and return a batch; return an empty list once the queue is closed."""
        with self._news:
            while not self._waiting and not self._closed:
                self._news.wait()
            deadline = time.monotonic() + self._patience
            while not self._closed and len(self._waiting) < self._most:
                before, left = len(self._waiting), deadline - time.monotonic()
                if left <= 0:
                    break
                self._news.wait(min(left, self._linger))
                if len(self._waiting) == before:
                    break
            if self._closed:
                return []
            return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]

    def _run(self, jobs: Sequence[_Job], run: Callable[[list[Any]], Iterator[Any]]) -> None:
        left = {job.request.id: job for job in jobs}
        if not left:
            return
        failure: Exception = UsageError("the model was closed before this request was done")
        try:
            if not self._closed:
                for result in run([job.request for job in left.values()]):
                    job = left.pop(result.id, None)
                    if job is None:
                        raise EngineError(f"the engine answered {result.id!r}, which nobody asked")
                    self._settle(job, result)
                    if self._closed:
                        break
                else:
                    failure = EngineError("the engine ended without an answer to this request")
        except PersonascopeError as error:
            if len(left) > 1 and not self._closed:
                # Find the failing request by bisection. A request's sampling does not depend on
                # its batch, so requests that are run again give the same result.
                rest = list(left.values())
                self._run(rest[: len(rest) // 2], run)
                self._run(rest[len(rest) // 2 :], run)
                return
            failure = error
        except Exception as error:  # any error must reach the waiting futures
            failure = error
        for job in left.values():
            job.future.set_exception(failure)

    def _settle(self, job: _Job, result: Completion | Scored) -> None:
        try:
            check_applied(job.request.id, job.request.plan, result.plan_digest)
        except EngineError as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
