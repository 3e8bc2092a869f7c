"""Running a job: generation, judging beside it, and committing unit by unit.

At most two waves of units are in memory: one that is generated, and one whose verdicts come in meanwhile. A
unit is committed as soon as its verdicts and those of all units before it are there.
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
"""A request, and the unit that it is of."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run left in its folder.

    Attributes:
        done: Responses committed, of this and of earlier runs.
        total: Responses of the job.
        unscored: Committed responses without a label that they need; the same call judges them again.
        problem: Why it stopped before the end; empty if it did not.
        judge: What judging took in this run, None without a judge.
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
    """Generate, judge and commit what is missing of a job in its run folder.

    Args:
        engine: Answers the job's requests.
        job: What is asked and what is kept.
        folder: Open for writing, with the job's identity.
        judge: Labels the responses; None leaves them without labels.
        progress: Called after each result.
        max_pending: Responses that are judged at the same time; beyond that generation waits.

    Raises:
        StoreError: If the folder cannot be written.
        EngineError: If the engine fails, or returns something else than was asked for.
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
        # Item -> the unit that it is of; units are told apart by identity.
        self.judged: dict[str, Unit] = {}
        self.waiting: Counter[int] = Counter()
        # Unit -> results that are there and not committed.
        self.results: Counter[int] = Counter()
        # Units that were generated and are not committed, oldest first.
        self.open: deque[Unit] = deque()

    def run(self) -> str:
        """Do what is left to do; return why it stopped before the end, or an empty text."""
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
        """Why the judge cannot go on, or an empty text."""
        fatal = None if self.pool is None else self.pool.fatal
        return "" if fatal is None else f"the judge stopped: {fatal.message}"

    def make_waves(self) -> Iterator[tuple[list[Unit], list[Asked[Unit]]]]:
        """Yield the units to do, together until they hold enough requests for a batch, and those requests."""
        wave: list[Unit] = []
        asked: list[Asked[Unit]] = []
        for unit in self.job.todo(self.folder):
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
        """Take a generated wave; of those before it none may stay in memory."""
        self.settle(wait=True)
        self.open.extend(wave)
        self.settle(wait=False)

    def settle(self, *, wait: bool) -> None:
        """Commit units in order, up to the first whose verdicts are awaited, or wait for those too."""
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
