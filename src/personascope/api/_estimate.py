"""What a long command would take: its work in parts, and the files that it would write."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from personascope.api._judging import JudgeChoice
from personascope.api._tabular import Tabular
from personascope.judge import THEN, Judge, JudgeChain, OpenAIJudge, RulesJudge
from personascope.runs import WorkStep

P = ParamSpec("P")
Done = TypeVar("Done", covariant=True)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WorkEstimate(Tabular):
    """What a command would take.

    Attributes:
        name: Name of the command.
        steps: Parts of the work.
        files: Files and folders that it would write.
        remarks: Remarks for the reader, one line each.
    """

    name: str
    steps: tuple[WorkStep, ...]
    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()

    @property
    def total(self) -> WorkStep:
        """All parts together; time and cost are None if no part has one."""
        return functools.reduce(lambda one, other: one + other, self.steps, WorkStep("all"))

    def headline(self) -> str:
        """Return the numbers of responses and tokens, and the time."""
        whole = self.total
        told = [f"{whole.responses:,} responses"] if whole.responses else []
        told += [f"{whole.passes:,} texts read"] if whole.passes else []
        told += [f"{whole.prompt_tokens + whole.response_tokens:,} tokens"]
        told += [] if whole.seconds is None else [f"about {whole.seconds / 60:,.1f} minutes"]
        told += [f"{whole.calls:,} judge calls"] if whole.calls else []
        told += [] if whole.cost is None else [f"cost {whole.cost:.2f}"]
        return f"{self.name} would take {', '.join(told)}"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each part."""
        return [{field.name: getattr(step, field.name) for field in fields(step)} for step in self.steps]

    def notes(self) -> tuple[str, ...]:
        """Return the remarks, and the files that would be written."""
        return (*self.remarks, *(f"would write {path}" for path in self.files))


@dataclass(frozen=True, slots=True, eq=False)
class Prepared(Generic[Done]):
    """A command with checked arguments, which can be estimated or run.

    Attributes:
        estimate: Function that estimates what it would take from a short probe on the model; writes nothing.
        run: Function that runs it and returns its result.
    """

    estimate: Callable[[], WorkEstimate]
    run: Callable[[], Done]


class Estimable(Protocol[P, Done]):
    """A function that does something long, and can say before what that would take."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Done:
        """Check the arguments and run."""
        ...

    def estimate(self, *args: P.args, **kwargs: P.kwargs) -> WorkEstimate:
        """Check the arguments and estimate what they would take, from a short probe; write nothing."""
        ...

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> Prepared[Done]:
        """Check the arguments; what is returned can be estimated or run."""
        ...


def estimable(prepare: Callable[P, Prepared[Done]]) -> Estimable[P, Done]:
    """Make a function that prepares a command into one that runs it, with ``.estimate`` and ``.prepare``.

    All three take the same arguments.
    """

    @functools.wraps(prepare)
    def run(*args: P.args, **kwargs: P.kwargs) -> Done:
        return prepare(*args, **kwargs).run()

    def estimate(*args: P.args, **kwargs: P.kwargs) -> WorkEstimate:
        return prepare(*args, **kwargs).estimate()

    signature = inspect.signature(prepare)
    returned = str(signature.return_annotation).removeprefix("Prepared[").removesuffix("]")
    shown = signature.replace(return_annotation=returned)
    for name, value in (("estimate", estimate), ("prepare", prepare), ("__signature__", shown)):
        setattr(run, name, value)
    return cast("Estimable[P, Done]", run)


def estimated_judge(judge: Judge | JudgeChoice | None) -> Judge | None:
    """Return the judge to estimate with, without loading a model; None for no judge."""
    if not isinstance(judge, JudgeChoice):
        return judge
    first = judge.spec.partition(THEN)[0].strip()
    if first == "none":
        return None
    return JudgeChoice(first, None, judge.options, {}).open() if first.startswith("openai:") else RulesJudge()


def judging_remarks(judge: Judge | JudgeChoice | None) -> tuple[str, ...]:
    """Return what an estimate leaves out of a judge's work."""
    if isinstance(judge, JudgeChoice):
        first, then, _ = judge.spec.strip().partition(THEN)
        chain, local = bool(then) or judge.fallback is not None, first.startswith("local:")
        paid, priced = first.startswith("openai:"), "price_in" in judge.options
    else:
        chain, local, priced = isinstance(judge, JudgeChain), False, True
        paid = isinstance(judge, OpenAIJudge)
    remarks = ["the judge works beside the model; its own time is not counted"] if paid or local else []
    if paid and not priced:
        remarks.append("give --judge-price IN,OUT for what the judge would cost")
    if chain:
        remarks.append("calls of the second judge are not counted")
    return tuple(remarks)


def resumed_remark(folder: Path) -> tuple[str, ...]:
    """Return a remark if a folder holds a run already, which the command would go on with."""
    if not (folder / "manifest.json").exists():
        return ()
    return (f"{folder} holds a run already: what is committed there is not done again, but is counted here",)


def written(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Return the paths of files in a folder."""
    return tuple(folder / name for name in names)
