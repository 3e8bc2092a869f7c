"""The interface between a job and `collect`, which runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from personascope.engines import Completion, Engine, Request, Scored, ScoreRequest
from personascope.judge import JudgeItem, Verdict
from personascope.store import RunFolder

Unit = TypeVar("Unit")


class Job(ABC, Generic[Unit]):
    """A job, divided into units that are committed one by one.

    A unit is an object of the job's choice that collects completions and verdicts until it is committed.
    Units are committed in the order of ``todo``. An interrupted run keeps its committed units.

    Attributes:
        wave: Minimum number of requests generated together, so that units with few requests share a batch.
        total: Number of responses of all units, for the progress display.
        completing: Name of the ``complete`` phase in the progress display; "" to not show it.
    """

    wave: int = 512
    total: int = 0
    completing: str = ""

    @abstractmethod
    def done(self, folder: RunFolder) -> int:
        """Return the number of committed responses."""

    @abstractmethod
    def unscored(self, folder: RunFolder) -> int:
        """Return the number of committed responses with missing labels."""

    @abstractmethod
    def todo(self, folder: RunFolder) -> Iterator[Unit | None]:
        """Yield the uncommitted units in order; the committed ones may determine which come next.

        None asks for all units yielded so far to be committed before the next one is asked for.
        """

    @abstractmethod
    def name(self, unit: Unit) -> str:
        """Return the name of a unit for the progress display."""

    @abstractmethod
    def requests(self, unit: Unit) -> Sequence[Request] | Sequence[ScoreRequest]:
        """Return a unit's requests that can be made now and have no result yet.

        It is called again until it returns none, so a request may depend on the result of an earlier one.
        """

    @abstractmethod
    def take(self, unit: Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        """Store a result of a unit, and return the items to judge."""

    def complete(self, engine: Engine, units: Sequence[Unit]) -> None:
        """Run further engine work on units that have all results, such as perplexities."""
        del engine, units

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[Unit, Sequence[JudgeItem]]]:
        """Yield committed units with missing labels or another judge's labels, and the items to judge."""
        del folder
        return iter(())

    def verdict(self, unit: Unit, verdict: Verdict) -> None:
        """Store the judge's verdict on one item of a unit."""
        del unit, verdict

    @abstractmethod
    def commit(self, folder: RunFolder, unit: Unit) -> None:
        """Commit a unit; leave a unit unchanged that was judged again without a new label."""

    def why_stop(self, folder: RunFolder, fatal: str) -> str:
        """Return why generation should stop, or "" to continue.

        Args:
            folder: Run folder.
            fatal: Why the judge cannot continue, or "".
        """
        del folder, fatal
        return ""
