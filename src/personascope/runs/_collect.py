"""Run a job: generate, judge concurrently, and commit unit by unit.

At most two waves of units are in memory: one that is being generated, and one whose verdicts are still
arriving. A unit is committed as soon as its verdicts and those of all earlier units have arrived.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from personascope.engines import Completion, Engine, Request, ScoreRequest
from personascope.judge import Judge, JudgeItem, JudgePool, JudgeStats
from personascope.runs._job import Job, Unit
from personascope.runs._progress import Progress, ProgressCallback
from personascope.runs._requests import run_requests
from personascope.store import RunFolder

Asked = tuple[Unit, Request | ScoreRequest]
"""A unit and one of its requests."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """State of a run folder after a call.

    Attributes:
        done: Number of committed responses, of this and of earlier calls.
        total: Number of responses in the job.
        unscored: Number of committed responses with missing labels; the same call judges them again.
        problem: Why the run stopped early; "" if it did not.
        judge: Statistics of the judge's calls in this call; None without a judge.
    """

    done: int
    total: int
    unscored: int
    problem: str
    judge: JudgeStats | None


def collect(
    engine: Engine,
    job: Job[Unit],
    folder: RunFolder,
    judge: Judge | None,
    *,
    progress: ProgressCallback | None = None,
    max_pending: int = 64,
) -> RunOutcome:
    """Generate, judge and commit the part of a job that its run folder lacks.

    Args:
        engine: Engine that answers the job's requests.
        job: Job to run.
        folder: Run folder, open for writing with the job's identity.
        judge: Judge that labels the responses; None leaves them unlabelled.
        progress: Callback to call after each result.
        max_pending: Maximum number of responses judged concurrently; beyond that generation waits.

    Raises:
        StoreError: If the folder cannot be written.
        EngineError: If the engine fails, or its results do not match the requests.
    """
    with contextlib.ExitStack() as stack:
        pool = None if judge is None else stack.enter_context(JudgePool(judge, max_pending=max_pending))
        problem = _Collector(engine, job, folder, pool, progress).run()
    return RunOutcome(
        done=job.done(folder),
        total=job.total,
        unscored=job.unscored(folder),
        problem=problem,
        judge=None if judge is None else judge.stats,
    )


class _Collector(Generic[Unit]):
    def __init__(
        self,
        engine: Engine,
        job: Job[Unit],
        folder: RunFolder,
        pool: JudgePool | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.engine, self.job, self.folder, self.pool = engine, job, folder, pool
        self.progress = progress
        self.committed = job.done(folder)
        self.unscored = job.unscored(folder)
        self.tokens = 0
        # Judge item id -> its unit. Counters below are keyed by id(unit).
        self.judged: dict[str, Unit] = {}
        self.waiting: Counter[int] = Counter()
        # Unit -> number of uncommitted results.
        self.results: Counter[int] = Counter()
        # Generated but uncommitted units, oldest first.
        self.open: deque[Unit] = deque()

    def run(self) -> str:
        """Run the remaining work; return why it stopped early, or ""."""
        self.report("start", "")
        if self.pool is not None:
            for unit, items in self.job.judge_again(self.folder):
                if self.pool.fatal is not None:
                    break
                self.submit(unit, items)
                self.push([unit])
                self.report("judge", self.job.name(unit))
        self.settle(wait=True)
        stop = ""
        for wave, first in self.make_waves():
            stop = self.job.why_stop(self.folder, self.fatal)
            if stop:
                break
            self.generate(wave, first)
            self.push(wave)
        self.settle(wait=True)
        self.report("done", "")
        return stop or self.fatal

    @property
    def fatal(self) -> str:
        """Why the judge cannot continue, or ""."""
        fatal = None if self.pool is None else self.pool.fatal
        return "" if fatal is None else f"the judge stopped: {fatal.message}"

    def make_waves(self) -> Iterator[tuple[list[Unit], list[Asked[Unit]]]]:
        """Yield waves: units grouped until they have enough requests for a batch, with those requests."""
        wave: list[Unit] = []
        asked: list[Asked[Unit]] = []
        for unit in self.job.todo(self.folder):
            if unit is None:
                if wave:
                    yield wave, asked
                    wave, asked = [], []
                self.settle(wait=True)
                continue
            wave.append(unit)
            asked += [(unit, request) for request in self.job.requests(unit)]
            if len(asked) >= self.job.wave:
                yield wave, asked
                wave, asked = [], []
        if wave:
            yield wave, asked

    def generate(self, wave: Sequence[Unit], asked: list[Asked[Unit]]) -> None:
        while asked:
            units = {request.id: unit for unit, request in asked}
            with contextlib.closing(run_requests(self.engine, [request for _, request in asked])) as results:
                for result in results:
                    unit = units[result.id]
                    self.submit(unit, self.job.take(unit, result))
                    self.drain(0.0)
                    self.settle(wait=False)
                    self.results[id(unit)] += 1
                    if isinstance(result, Completion):
                        self.tokens += result.token_count
                    self.report("generate", self.job.name(unit))
            asked = [(unit, request) for unit in wave for request in self.job.requests(unit)]
        if self.job.completing:
            self.report(self.job.completing, self.job.name(wave[-1]))
        self.job.complete(self.engine, wave)

    def submit(self, unit: Unit, items: Iterable[JudgeItem]) -> None:
        for item in items:
            if self.pool is None:
                return
            self.judged[item.id] = unit
            self.waiting[id(unit)] += 1
            self.pool.submit(item)
            self.drain(0.0)

    def drain(self, timeout: float | None) -> None:
        if self.pool is None:
            return
        for verdict in self.pool.drain(timeout):
            unit = self.judged.pop(verdict.id)
            self.waiting[id(unit)] -= 1
            self.job.verdict(unit, verdict)

    def push(self, wave: Sequence[Unit]) -> None:
        """Add a generated wave, after waiting until all earlier waves are committed."""
        self.settle(wait=True)
        self.open.extend(wave)
        self.settle(wait=False)

    def settle(self, *, wait: bool) -> None:
        """Commit units in order, up to the first with missing verdicts; with ``wait``, wait for those too."""
        while self.open:
            unit = self.open[0]
            if self.waiting[id(unit)]:
                if not wait:
                    return
                self.report("judge", self.job.name(unit))
                self.drain(None)
                continue
            self.open.popleft()
            self.waiting.pop(id(unit), None)
            self.results.pop(id(unit), None)
            self.job.commit(self.folder, unit)
            self.committed, self.unscored = self.job.done(self.folder), self.job.unscored(self.folder)

    def report(self, phase: str, note: str) -> None:
        if self.progress is not None:
            cost = None if self.pool is None else self.pool.stats.cost
            self.progress(
                Progress(
                    phase,
                    self.committed + self.results.total(),
                    self.job.total,
                    self.tokens,
                    note,
                    self.unscored,
                    len(self.judged),
                    cost,
                )
            )
