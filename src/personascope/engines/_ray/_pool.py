"""Start Ray and its actors, and replace actors that die.

A worker that dies is replaced by a new actor. Ray could restart it in place, but then a call in transit may
reach the old process, the new one or none. A new actor has certainly received nothing.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from personascope.engines._contract import EngineInfo
from personascope.engines._ray._worker import EngineSpec, Worker, WorkerResult, check_same
from personascope.errors import EngineError

log = logging.getLogger(__name__)

MAX_DEATHS = 5
"""Maximum number of deaths of a worker in a row without a result, and of a request's workers."""

PATIENCE = 120.0
"""Seconds between warnings that a worker is not ready yet."""

CALLS = 32
"""Maximum number of concurrent calls of one actor: one for each open run, and a few more."""

_started = 0
"""Number of open pools that use the Ray which was started or connected to here."""


class LostError(Exception):
    """Error for a worker that died with all the requests that it held."""


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """A worker's place, and the actor that currently fills it.

    Attributes:
        number: 0-based number of the place.
        actor: Ray's handle of the current actor.
        pid: Process id of the worker once it has answered; else 0.
        deaths: Number of actors that died at this place since the last result.
    """

    number: int
    actor: Any
    pid: int = 0
    deaths: int = 0


class Pool:
    """Pool of workers with the same engine in each."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        workers: int,
        address: str | None,
        gpus_per_worker: float | None,
        log_to_driver: bool,
    ) -> None:
        """Start Ray unless it runs, start the workers, and wait until all models are loaded.

        Raises:
            EngineError: If Ray is not installed or not reachable, this machine has too few GPUs, a
                worker keeps dying, or workers differ.
            PersonascopeError: If an engine raises one while it loads.
        """
        self.ray = _import_ray()
        self._own = _connect(self.ray, address, workers, log_to_driver)
        self._lock = threading.Lock()
        self._turn = count()
        self.workers: list[WorkerHandle] = []
        self.closed = False
        try:
            self._local = self._own and address is None
            self._resources(options, workers, gpus_per_worker)
            threads = self._threads(workers)
            self.spec = EngineSpec(name, dict(options), threads, str(Path.cwd()), 2 * options["max_batch"])
            self.workers = [WorkerHandle(number, self._actor()) for number in range(workers)]
            self.info = self._start()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that have answered."""
        return [worker.pid for worker in self.workers if worker.pid]

    def result_of(self, worker: WorkerHandle, actor: Any, ref: Any) -> WorkerResult:
        """Wait for the answer of a call.

        Raises:
            LostError: If the actor died; it has then been replaced.
            EngineError: If the worker died too often in a row, or the call itself failed.
        """
        errors = self.ray.exceptions
        try:
            answer: WorkerResult = pickle.loads(self.ray.get(ref))
        except errors.RayTaskError as error:
            raise EngineError(
                f"worker {worker.number} could not take a request: {_last_line(error)}",
                hint="the version of personascope on that node may be another one",
            ) from error
        except errors.RayError as error:
            self._replace(worker, actor, error)
            raise LostError(_cause(error)) from error
        if actor is worker.actor:
            worker.pid = answer.pid
            if answer.results:
                worker.deaths = 0
        return answer

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method on the next worker in turn, and on the one after it if that dies.

        Raises:
            EngineError: If workers keep dying.
            PersonascopeError: If the engine raises one.
        """
        self.check_open()
        for _ in range(MAX_DEATHS + 1):
            worker = self.workers[next(self._turn) % len(self.workers)]
            actor = worker.actor
            with contextlib.suppress(LostError):
                answer = self.result_of(worker, actor, getattr(actor, method).remote(*arguments))
                if answer.error is not None:
                    raise answer.error
                return answer.results[0]
        raise EngineError(
            f"{MAX_DEATHS + 1} workers died over one call of {method}",
            hint="look at the memory of the nodes, and give the conversation to a local engine",
        )

    def check_open(self) -> None:
        """Raise an EngineError if the pool is closed."""
        if self.closed:
            raise EngineError("the engine is closed", hint="load it again")

    def close(self) -> None:
        """Stop the workers, and the Ray of this process unless another pool uses it or it ran before."""
        global _started
        if self.closed:
            return
        self.closed = True
        for worker in self.workers:
            self._kill(worker.actor)
        if self._own:
            _started -= 1
            if _started == 0:
                self.ray.shutdown()

    def _threads(self, workers: int) -> int:
        """Return each worker's share of the cores, on this machine at most OMP_NUM_THREADS."""
        threads = max(1, int(self.ray.cluster_resources().get("CPU", 1) // workers))
        allowed = os.environ.get("OMP_NUM_THREADS", "")
        return min(threads, int(allowed)) if self._local and allowed.isdigit() else threads

    def _resources(self, options: Mapping[str, Any], workers: int, gpus_per_worker: float | None) -> None:
        there = self.ray.cluster_resources()
        if gpus_per_worker is None:
            cpu = str(options.get("device") or "").startswith("cpu")
            one = there.get("GPU", 0) > 0 and not cpu
            sizes = (options.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline"))
            gpus_per_worker = float(math.prod(sizes)) if one else 0.0
        self.gpus = gpus_per_worker
        for kind, needed in (("GPU", gpus_per_worker * workers), ("CPU", float(workers))):
            if there.get(kind, 0) >= needed:
                continue
            found = f"{workers} workers need {needed:g} {kind}s, and Ray has {there.get(kind, 0):g}"
            if self._local:
                raise EngineError(found, hint="take fewer workers, or a smaller share: gpus_per_worker=0.5")
            # A cluster may grow on demand.
            log.warning("%s; those without a place wait for one", found)

    def _actor(self) -> Any:
        remote = self.ray.remote(
            # Two engines may share this machine; on a cluster a worker reserves a core.
            num_cpus=0 if self._local else 1,
            num_gpus=self.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=CALLS,
            scheduling_strategy="SPREAD",
        )(Worker)
        return remote.remote(self.spec)

    def _start(self) -> EngineInfo:
        infos: list[EngineInfo] = []
        calls = [(worker, worker.actor, worker.actor.start.remote()) for worker in self.workers]
        while calls:
            worker, actor, ref = calls.pop(0)
            while not self.ray.wait([ref], num_returns=1, timeout=PATIENCE)[0]:
                log.warning(
                    "worker %d is not ready yet: it loads, or waits for a place (ray status)", worker.number
                )
            try:
                answer = self.result_of(worker, actor, ref)
            except LostError:
                calls.append((worker, worker.actor, worker.actor.start.remote()))
                continue
            if answer.error is not None:
                raise answer.error
            infos += answer.results
        for info in infos[1:]:
            check_same(infos[0], info)
        self.spec = replace(self.spec, expected=infos[0])
        return infos[0]

    def _replace(self, worker: WorkerHandle, actor: Any, error: Exception) -> None:
        with self._lock:
            # Another run may have noticed the same death first.
            if worker.actor is not actor or self.closed:
                return
            worker.deaths += 1
            worker.pid = 0
            log.warning("worker %d died (%s); it is started again", worker.number, _cause(error))
            # The actor may still run, out of reach.
            self._kill(actor)
            worker.actor = self._actor()
        if worker.deaths > MAX_DEATHS:
            raise EngineError(
                f"worker {worker.number} died {worker.deaths} times in a row without a result: "
                f"{_cause(error)}",
                hint="look at that node's memory and at Ray's logs; a smaller --max-batch needs less",
            ) from error

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor)


def _import_ray() -> Any:
    # Ray's usage reports and one of its warnings are switched off.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions  # pyright: ignore[reportUnusedImport]  # not imported by `ray` itself
    except ImportError as error:
        raise EngineError(
            f"Ray cannot be imported: {error}",
            hint="pip install 'personascope[ray]', or take one worker and no address",
        ) from error
    return ray


def _connect(ray: Any, address: str | None, workers: int, log_to_driver: bool) -> bool:
    """Connect to Ray, or start it here if there is no address; return whether the pool must shut it down."""
    global _started
    if ray.is_initialized():
        if _started:
            _started += 1
        return _started > 0
    common = {
        "ignore_reinit_error": True,
        "log_to_driver": log_to_driver,
        "logging_level": logging.ERROR,
    }
    try:
        if address is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            # More workers than cores are slow but allowed.
            ray.init(address="local", include_dashboard=False, num_cpus=max(cores, workers), **common)
        else:
            _knock(address)
            ray.init(address=address, **common)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"Ray cannot be reached at {address or 'this machine'}: {_last_line(error)}",
            hint="ray start --head begins a cluster; --address auto finds it, or give ray://host:10001",
        ) from error
    _started += 1
    return True


def _knock(address: str) -> None:
    """Raise an OSError if nothing listens at host:port, because Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _lines(error: BaseException) -> Iterator[str]:
    return (line.strip() for line in str(error).splitlines() if line.strip())


def _last_line(error: BaseException) -> str:
    return (list(_lines(error)) or [type(error).__name__])[-1]


def _cause(error: BaseException) -> str:
    """Return the line of Ray's message that gives the cause."""
    lines = list(_lines(error)) or [type(error).__name__]
    telling = [line for line in lines if "because" in line or "exit detail" in line]
    return (telling or lines)[0].partition(" Some common causes")[0][:300]
