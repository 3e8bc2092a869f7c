"""What a job tells the mechanism that runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from personascope.engines import Completion, Engine, Request, Scored, ScoreRequest
from personascope.judge import JudgeItem, Verdict
from personascope.store import RunFolder

Unit = TypeVar("Unit")


class Job(ABC, Generic[Unit]):
    """A design, cut into units that are committed one by one.

    A unit is whatever the job makes of it: an object that takes completions and verdicts until it is packed.
    Units must be committed in the order of ``todo``; of a run that died, those that were committed are there.

    Attributes:
        wave: Requests that are generated together at least: units of few requests share a batch.
        total: Responses of all units, for the progress.
        completing: What the progress calls the work of ``complete``.
    """

    wave: int = 512
    total: int = 0
    completing: str = ""

    @abstractmethod
    def done(self, folder: RunFolder) -> int:
        """Return the responses that are committed."""

    @abstractmethod
    def unscored(self, folder: RunFolder) -> int:
        """Return the committed responses without a label that they need."""

    @abstractmethod
    def todo(self, folder: RunFolder) -> Iterator[Unit]:
        """Yield the units that are not committed, in order; what is committed may decide what comes next."""

    @abstractmethod
    def name(self, unit: Unit) -> str:
        """Return what the progress calls a unit."""

    @abstractmethod
    def requests(self, unit: Unit) -> Sequence[Request] | Sequence[ScoreRequest]:
        """Return what can be asked of a unit now and has no result yet; asked again until there is nothing.

        So a second request may depend on the result of a first one.
        """

    @abstractmethod
    def take(self, unit: Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        """Take a result, and return what is to be judged of it; nothing where there is no judge."""

    def complete(self, engine: Engine, units: Sequence[Unit]) -> None:
        """Do what the engine has to do once all results of some units are there, such as perplexities."""
        del engine, units

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[Unit, Sequence[JudgeItem]]]:
        """Yield the committed units without labels, or with another judge's, and what is to be judged."""
        del folder
        return iter(())

    def verdict(self, unit: Unit, verdict: Verdict) -> None:
        """Take what the judge said of one item of a unit."""
        del unit, verdict

    @abstractmethod
    def commit(self, folder: RunFolder, unit: Unit) -> None:
        """Pack a unit and commit it; a unit that was judged again without a new label is left as it is."""

    def why_stop(self, folder: RunFolder, fatal: str) -> str:
        """Return why no further unit is to be generated; an empty text to go on.

        Args:
            folder: The run folder.
            fatal: Why the judge cannot go on, or an empty text.
        """
        del folder, fatal
        return ""
