"""Read the results of a run for its report: evaluations, calibration sweeps, conversations, monitor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field, RootModel

from personascope.report.map_page._result_views import (
    Domain,
    EvaluationView,
    MonitorRule,
    Range,
    Row,
    SweepCell,
    SweepView,
    TalksView,
)
from personascope.store import Record, as_record, read_json, read_record

_AGAIN = "run the command that wrote it again, or remove the file"


@dataclass(frozen=True)
class ResultFiles:
    """Files of results to show; those that do not exist are left out.

    Attributes:
        evaluations: Results of evaluations.
        sweep: Result of the sweep over caps, or None.
        talks: Name -> results of an analysis of conversations.
        monitor: Report of the drift monitor, or None.
        steering: Result of the sweep over steering, or None.
    """

    evaluations: tuple[Path, ...] = ()
    sweep: Path | None = None
    talks: tuple[tuple[str, Path], ...] = ()
    monitor: Path | None = None
    steering: Path | None = None


NO_RESULTS = ResultFiles()


class _Interval(Record):
    estimate: float | None
    low: float | None
    high: float | None
    n: int

    def made(self) -> Range:
        return Range(self.estimate, self.low, self.high, self.n)


class _Words(Record):
    words: str


class _Result(Record):
    condition: str
    kind: str
    measure: str
    share: _Interval
    against_plain: _Interval | None = None
    control: str | None = None
    conclusion: _Words | None = None


class _Table(Record):
    name: str
    results: list[_Result]
    notes: tuple[str, ...] = ()
    caveats: dict[str, str] = Field(default_factory=dict[str, str])


class _Cell(Record):
    condition: str
    assistant: _Interval
    harmful: _Interval
    capability: _Interval
    incoherent: float | None
    firing_share: float | None
    benefit: float | None = None
    control: str | None = None
    kind: str
    kl: _Interval | None = None
    away: bool = False
    strength: float | None = None
    layer: int | None = None


class _Sweep(Record):
    cells: list[_Cell]
    front: tuple[str, ...] = ()
    recommended: str | None
    why: str
    jailbreak: _Table


class _Turn(Record):
    turn: int
    position: _Interval


class _Domain(Record):
    domain: str
    turns: list[_Turn]
    change: _Interval
    n_dialogues: int


class _Trajectories(Record):
    domains: list[_Domain]
    layer: int
    notes: tuple[str, ...] = ()


class _Talks(Record):
    trajectories: _Trajectories


class _Monitor(Record):
    false_alarms: dict[str, _Interval]
    others: dict[str, dict[str, _Interval]] = Field(default_factory=dict[str, dict[str, _Interval]])


class _Bin(Record):
    low: float
    high: float
    share: _Interval


class _NoRole(Record):
    harmful: _Interval


class _Harm(Record):
    harmful: _Interval
    no_role: _NoRole | None
    bins: list[_Bin]
    notes: tuple[str, ...] = ()
    caveat: str = ""


class _Task(Record):
    documents: int
    headline: str
    metrics: dict[str, float | None]
    conclusion: _Words | None = None


class _Scores(Record):
    tasks: dict[str, _Task]


class _Capability(RootModel[dict[str, _Scores]]):
    model_config = ConfigDict(strict=True)


def evaluations_of(files: ResultFiles) -> tuple[EvaluationView, ...]:
    """Return the evaluations of a run.

    Raises:
        StoreError: If a file is damaged, or of no known evaluation.
    """
    return tuple(_read(path) for path in files.evaluations if path.is_file())


def _read(path: Path) -> EvaluationView:
    value = read_json(path, hint=_AGAIN)
    if "results" in value:
        return _evaluation(as_record(value, _Table, path=path, hint=_AGAIN))
    if "bins" in value:
        return _harm(as_record(value, _Harm, path=path, hint=_AGAIN), path.parent.name)
    return _capability(as_record(value, _Capability, path=path, hint=_AGAIN).root, path.parent.name)


def _harm(found: _Harm, name: str) -> EvaluationView:
    measure = "harmful second reply"
    rows = [Row("in a role", "plan", measure, found.harmful.made())]
    if found.no_role is not None:
        rows.insert(0, Row("without a role", "plain", measure, found.no_role.harmful.made()))
    rows += [
        Row(f"first reply at {one.low:.2f} to {one.high:.2f}", "axis", measure, one.share.made())
        for one in found.bins
    ]
    return EvaluationView(
        name, tuple(rows), tuple(found.notes), {measure: found.caveat} if found.caveat else {}
    )


def _capability(found: dict[str, _Scores], name: str) -> EvaluationView:
    rows = [
        Row(
            condition,
            "plain" if condition == "plain" else "plan" if task.conclusion else "control",
            f"{label}, {task.headline.partition(',')[0]}",
            Range(task.metrics.get(task.headline), None, None, task.documents),
            None,
            "" if task.conclusion is None else task.conclusion.words,
        )
        for condition, scores in found.items()
        for label, task in scores.tasks.items()
    ]
    return EvaluationView(name, tuple(rows), (), {})


def _evaluation(table: _Table) -> EvaluationView:
    rows = [
        Row(
            one.condition,
            one.control or ("isotropic" if one.kind == "random" else one.kind),
            one.measure,
            one.share.made(),
            None if one.against_plain is None else one.against_plain.made(),
            "" if one.conclusion is None else one.conclusion.words,
        )
        for one in table.results
        # A measure that no response has a value of is not shown.
        if one.share.n
    ]
    return EvaluationView(table.name, tuple(rows), tuple(table.notes), dict(table.caveats))


def sweep_of(path: Path | None) -> SweepView | None:
    """Return a calibration sweep of a run, or None if there was none.

    Args:
        path: Result of the sweep, over caps or over steering.

    Raises:
        StoreError: If the file is damaged.
    """
    if path is None or not path.is_file():
        return None
    found = read_record(path, _Sweep, hint=_AGAIN)
    cells = [
        SweepCell(
            one.condition,
            one.control or ("isotropic" if one.kind == "random" else ""),
            one.assistant.made(),
            one.harmful.made(),
            one.capability.made(),
            one.incoherent,
            one.firing_share,
            one.benefit,
            None if one.kl is None else one.kl.made(),
            one.strength,
            one.layer,
            one.condition in found.front,
        )
        for one in found.cells
    ]
    notes = dict.fromkeys(found.jailbreak.caveats.values())
    away = any(one.away for one in found.cells)
    return SweepView(tuple(cells), found.recommended or "", found.why, tuple(notes), away)


def talks_of(files: ResultFiles) -> tuple[TalksView, ...]:
    """Return the analysed conversations of a run.

    Raises:
        StoreError: If a file is damaged.
    """
    return tuple(
        _talks(name, read_record(path, _Talks, hint=_AGAIN)) for name, path in files.talks if path.is_file()
    )


def _talks(name: str, found: _Talks) -> TalksView:
    domains = [
        Domain(
            one.domain,
            one.n_dialogues,
            tuple(turn.turn for turn in one.turns),
            tuple(turn.position.made() for turn in one.turns),
            one.change.made(),
        )
        for one in found.trajectories.domains
    ]
    return TalksView(name, found.trajectories.layer, tuple(domains), tuple(found.trajectories.notes))


def monitor_of(files: ResultFiles) -> tuple[MonitorRule, ...]:
    """Return the false alarms of a run's monitor; empty without one.

    Raises:
        StoreError: If the file is damaged.
    """
    if files.monitor is None or not files.monitor.is_file():
        return ()
    found = read_record(files.monitor, _Monitor, hint=_AGAIN)
    return (
        *(
            MonitorRule(rule, "held out, Assistant-like", one.made())
            for rule, one in found.false_alarms.items()
        ),
        *(
            MonitorRule(rule, domain, one.made())
            for rule, domains in found.others.items()
            for domain, one in domains.items()
        ),
    )
