"""The worker inside an actor: an engine in its own thread, which receives requests while it runs.

An engine keeps its batch full as long as its source has more requests. The actor therefore does not run it
on chunks, each of which would drain before the next one starts. It runs ``engine.run`` on a feed, to which
new requests are added while old ones are generated. A call returns the results that are ready so far.
Only the one thread uses the engine; the actor's calls only add requests and take results.
"""

# pyright: reportPrivateUsage=false
# A feed uses private attributes of its worker.
from __future__ import annotations

import logging
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from personascope.chat import ChatOptions
from personascope.engines._contract import EngineInfo
from personascope.errors import EngineError, PersonascopeError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Specification from which a worker loads its engine.

    Attributes:
        name: Model, as `personascope.engines.load_engine` takes it.
        options: Arguments of `load_engine` besides the name.
        threads: Number of CPU threads of the worker.
        folder: Working folder, which relative paths to a model start from.
        turn: Number of requests that a session may start before waiting sessions get the engine.
        expected: Info that the engine must have, for a worker that replaces another; else None.
    """

    name: str
    options: Mapping[str, Any]
    threads: int
    folder: str
    turn: int
    expected: EngineInfo | None = None


@dataclass(frozen=True, slots=True, eq=False)
class WorkerResult:
    """Answer of a worker to a call.

    Attributes:
        pid: Process id of the worker.
        results: Completions or scores that ended since the last answer, or the requested value.
        error: Error that ended the work, or None.
        idle: Whether the worker has no more work for the caller.
    """

    pid: int
    results: list[Any]
    error: PersonascopeError | None = None
    idle: bool = True

    def pack(self) -> bytes:
        """Pickle it: as an object in Ray's store, its arrays would be read-only and pin memory."""
        return pickle.dumps(self, protocol=5)


@dataclass(slots=True, eq=False)
class _Session:
    """The part of one ``run`` or ``score`` of the caller that this worker has."""

    method: str
    transcript: bool | ChatOptions
    inbox: deque[Any] = field(default_factory=deque[Any])
    done: list[Any] = field(default_factory=list[Any])
    error: PersonascopeError | None = None
    busy: bool = False
    closed: bool = False


class _Feed:
    """Source of requests of an engine, which ends when it has none at the moment and may continue later.

    Engines ask again whenever they have room. A feed that waited for more would delay the running requests.
    """

    def __init__(self, worker: Worker, session: _Session) -> None:
        self._worker, self._session = worker, session
        self._left = worker.spec.turn

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Any:
        worker, session = self._worker, self._session
        with worker._changed:
            # Waiting sessions get the engine once this one has had its share.
            away = self._left <= 0 and bool(worker._jobs)
            if session.closed or away or not session.inbox:
                raise StopIteration
            self._left -= 1
            return session.inbox.popleft()


class Worker:
    """The actor, whose methods may be called concurrently; most return a packed `WorkerResult`."""

    def __init__(self, spec: EngineSpec) -> None:
        """Start the thread; the model is loaded by the first call that needs it.

        If the constructor loaded it and failed, Ray would report only that the actor died.
        """
        self.spec = spec
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._sessions: dict[str, _Session] = {}
        self._engines: dict[bool | ChatOptions, Any] = {}
        threading.Thread(target=self._work, name="personascope-engine", daemon=True).start()

    def start(self) -> bytes:
        """Load the model; the result is the engine's info."""
        return self._call(lambda: self._engine(False).info)

    def observe(self, transcript: bool | ChatOptions, packed: bytes) -> bytes:
        """Call ``engine.observe``; the only result is its return value.

        Args:
            transcript: Whether conversations are written as a transcript, or options of the chat template.
            packed: Pickled pair of the conversation and the keyword arguments.
        """
        conversation, options = pickle.loads(packed)
        return self._call(lambda: self._engine(transcript).observe(conversation, **options))

    def turn(self, key: str, method: str, transcript: bool | ChatOptions, packed: bytes) -> bytes:
        """Add requests to a session, wait for at least one result or the end, and return all results.

        Args:
            key: Name of the session; a new name begins a session.
            method: "run" or "score".
            transcript: Whether conversations are written as a transcript, or options of the chat template.
            packed: Pickled list of requests, which may be empty.
        """
        requests = pickle.loads(packed)
        with self._changed:
            session = self._sessions.setdefault(key, _Session(method, transcript))
            session.inbox.extend(requests)
            if session.inbox and not session.busy and session.error is None:
                self._enter(session)
            self._changed.wait_for(lambda: session.done or session.closed or not session.busy)
            done, session.done = session.done, []
            answer = WorkerResult(os.getpid(), done, session.error, idle=not session.busy)
        return answer.pack()

    def drop(self, key: str) -> None:
        """Forget a session and abandon its running requests."""
        with self._changed:
            session = self._sessions.pop(key, None)
            if session is not None:
                session.closed = True
                session.inbox.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Close the engine if it has a ``close`` method."""

        def end() -> None:
            for engine in list(self._engines.values())[:1]:
                if hasattr(engine, "close"):
                    engine.close()

        self._call(end)

    def _enter(self, session: _Session) -> None:
        session.busy = True
        self._jobs.append(lambda: self._serve(session))
        self._changed.notify_all()

    def _call(self, what: Callable[[], Any]) -> bytes:
        """Call a function in the engine's thread and return the packed result."""
        found: list[WorkerResult] = []

        def job() -> None:
            try:
                answer = WorkerResult(os.getpid(), [what()])
            except BaseException as error:
                answer = WorkerResult(os.getpid(), [], _as_ours(error))
            with self._changed:
                found.append(answer)
                self._changed.notify_all()

        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
            self._changed.wait_for(lambda: found)
        return found[0].pack()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            job()

    def _serve(self, session: _Session) -> None:
        """Run a session until it has no more requests, or another session waits."""
        failure: PersonascopeError | None = None
        try:
            made = getattr(self._engine(session.transcript), session.method)(_Feed(self, session))
            with closing(cast("Generator[Any]", made)) as results:
                for result in results:
                    with self._changed:
                        if session.closed:
                            break
                        session.done.append(result)
                        self._changed.notify_all()
        except BaseException as error:
            failure = _as_ours(error)
        with self._changed:
            session.busy = False
            session.error = failure
            if session.inbox and failure is None:
                self._enter(session)
            self._changed.notify_all()

    def _engine(self, chat: bool | ChatOptions) -> Any:
        if not self._engines:
            self._engines[False] = self._load()
        if chat not in self._engines:
            plain = self._engines[False]
            self._engines[chat] = plain.with_chat(chat) if chat is not True else plain.with_transcript()
        return self._engines[chat]

    def _load(self) -> Any:
        from personascope.engines._local import load_local

        spec = self.spec
        if Path(spec.folder).is_dir():
            os.chdir(spec.folder)
        torch.set_num_threads(spec.threads)
        os.environ["OMP_NUM_THREADS"] = str(spec.threads)
        # Workers on one machine would all bind themselves to its first cores.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        engine = load_local(spec.name, **spec.options)
        check_same(spec.expected, engine.info)
        return engine


def check_same(expected: EngineInfo | None, info: EngineInfo) -> None:
    """Check that a worker has the same model and software as the others.

    Raises:
        EngineError: If it has not; the message names the differences.
    """
    if expected is None or info == expected:
        return
    names = [name for name in EngineInfo.__slots__ if getattr(info, name) != getattr(expected, name)]
    differs = ", ".join(f"{name} {getattr(info, name)!r} and {getattr(expected, name)!r}" for name in names)
    raise EngineError(
        f"workers differ: {differs}",
        hint="give all nodes the same model and packages; a dtype can be set with --dtype",
    )


def _as_ours(error: BaseException) -> PersonascopeError:
    if isinstance(error, PersonascopeError):
        return error
    log.error("the engine of this worker failed", exc_info=error)
    lines = str(error).strip().splitlines()
    return EngineError(
        f"the engine of a worker failed: {type(error).__name__}: {lines[0] if lines else ''}",
        hint="its traceback is in Ray's log folder (/tmp/ray/session_latest/logs on that node)",
    )
