"""The mechanism behind every job: waves, stages, judging beside generation, order, resuming."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from personascope.chat import Message
from personascope.engines import Completion, Request, Sampling
from personascope.errors import EngineError, JudgeError
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.runs import Job, Progress, collect
from personascope.store import RunFolder

SCHEMA = pa.schema([("id", pa.string()), ("score", pa.int8())])


@dataclass(eq=False)
class Unit:
    index: int
    texts: dict[str, str] = field(default_factory=dict)
    scores: dict[str, int | None] = field(default_factory=dict)
    again: bool = False


class TwoStages(Job[Unit]):
    """Units of three requests; each result is asked about once more, and the second is judged."""

    def __init__(self, units: int = 5, wave: int = 3) -> None:
        self.units, self.wave = units, wave
        self.total = 6 * units
        self.committed: list[int] = []

    def done(self, folder: RunFolder) -> int:
        return 6 * len(folder.units)

    def unscored(self, folder: RunFolder) -> int:
        return sum(unit.meta["unscored"] for unit in folder.units.values())

    def todo(self, folder: RunFolder) -> Iterator[Unit]:
        return (Unit(index) for index in range(self.units) if index not in folder.units)

    def name(self, unit: Unit) -> str:
        return f"unit {unit.index}"

    def requests(self, unit: Unit) -> Sequence[Request]:
        first = [f"first|{unit.index}/{n}" for n in range(3)]
        wanted = first if not unit.texts else [id.replace("first", "second") for id in first]
        said = unit.texts.get
        return [
            Request(id, (Message("user", said(id.replace("second", "first"), "hello")),), Sampling())
            for id in wanted
            if id not in unit.texts
        ]

    def take(self, unit: Unit, result) -> list[JudgeItem]:
        unit.texts[result.id] = result.text
        if result.id.startswith("first"):
            return []
        unit.scores[result.id] = None
        return [item(result.id)]

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[Unit, list[JudgeItem]]]:
        for index, committed in list(folder.units.items()):
            if committed.meta["unscored"]:
                rows = folder.rows(index).to_pylist()
                unit = Unit(index, scores={row["id"]: row["score"] for row in rows}, again=True)
                yield unit, [item(row["id"]) for row in rows if row["score"] is None]

    def verdict(self, unit: Unit, verdict: Verdict) -> None:
        unit.scores[verdict.id] = verdict.score

    def commit(self, folder: RunFolder, unit: Unit) -> None:
        self.committed.append(unit.index)
        rows = [{"id": id, "score": score} for id, score in sorted(unit.scores.items())]
        meta = {"unscored": sum(score is None for score in unit.scores.values())}
        folder.commit(unit.index, rows=pa.Table.from_pylist(rows, schema=SCHEMA), meta=meta, parts={})


def item(id: str) -> JudgeItem:
    return JudgeItem(id=id, role="x", description="", system_prompt="", question="", response="")


class Engine:
    """Says what it was asked; remembers its batches."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self.said: list[str] = []
        self.fail_at = fail_at

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.batches.append([request.id for request in requests])
        for request in requests:
            if len(self.said) == self.fail_at:
                raise EngineError("the engine broke")
            text = f"{request.prompt[0].content}!"  # pyright: ignore[reportAttributeAccessIssue]
            self.said.append(request.id)
            yield Completion(request.id, text, (1, 2), "stop", 3, pooled=np.zeros((1, 1), np.float32))


class Judge:
    """Scores 3, or nothing; notes how much the engine had said when it was first asked."""

    name = "fake"

    def __init__(
        self, engine: Engine | None = None, *, silent: bool = False, dies_after: int = 10**9
    ) -> None:
        self.engine, self.silent, self.dies_after = engine, silent, dies_after
        self.seen: list[str] = []
        self.said_at_first: int | None = None
        self.asked = threading.Event()

    @property
    def stats(self) -> JudgeStats:
        return JudgeStats()

    async def score(self, item: JudgeItem) -> Verdict:
        if self.said_at_first is None and self.engine is not None:
            self.said_at_first = len(self.engine.said)
        self.asked.set()
        self.seen.append(item.id)
        if len(self.seen) > self.dies_after:
            raise JudgeError("no credit")
        return Verdict(item.id, 3, "", self.name)

    async def aclose(self) -> None:
        return


def opened(path: Path) -> RunFolder:
    return RunFolder.open(path, {"job": "two stages"}, {})


def scores(path: Path) -> dict[str, int | None]:
    folder = RunFolder.read(path)
    return {row["id"]: row["score"] for index in folder.units for row in folder.rows(index).to_pylist()}


def test_stages_follow_each_other_and_waves_hold_enough_requests(tmp_path: Path) -> None:
    engine, job = Engine(), TwoStages(units=5, wave=6)
    with opened(tmp_path) as folder:
        got = collect(engine, job, folder, Judge(), max_pending=4)  # pyright: ignore[reportArgumentType]
    assert [len(batch) for batch in engine.batches] == [6, 6, 6, 6, 3, 3]
    assert [batch[0].split("|")[0] for batch in engine.batches] == ["first", "second"] * 3
    assert job.committed == [0, 1, 2, 3, 4]
    assert (got.done, got.total, got.unscored, got.problem) == (30, 30, 0, "")
    assert set(scores(tmp_path).values()) == {3} and len(scores(tmp_path)) == 15


def test_the_judge_works_while_the_engine_does(tmp_path: Path) -> None:
    engine = Engine()
    judge = Judge(engine)

    class Waiting(TwoStages):
        def take(self, unit: Unit, result) -> list[JudgeItem]:
            if result.id == "first|1/0":
                # The next wave is being generated: the first one's items must be with the judge by now.
                assert judge.asked.wait(10)
            return super().take(unit, result)

    with opened(tmp_path) as folder:
        collect(engine, Waiting(), folder, judge)  # pyright: ignore[reportArgumentType]
    assert judge.said_at_first is not None and judge.said_at_first < len(engine.said)


def test_a_run_that_died_goes_on_and_ends_as_one_that_did_not(tmp_path: Path) -> None:
    with opened(tmp_path / "whole") as folder:
        collect(Engine(), TwoStages(), folder, Judge())  # pyright: ignore[reportArgumentType]
    for fail_at in range(0, 30, 4):
        path = tmp_path / str(fail_at)
        with opened(path) as folder, pytest.raises(EngineError, match="broke"):
            collect(Engine(fail_at=fail_at), TwoStages(), folder, Judge())  # pyright: ignore[reportArgumentType]
        engine = Engine()
        with opened(path) as folder:
            kept = len(folder.units)
            collect(engine, TwoStages(), folder, Judge())  # pyright: ignore[reportArgumentType]
        assert len(engine.said) == 6 * (5 - kept)
        assert scores(path) == scores(tmp_path / "whole")


def test_what_has_no_label_is_judged_again_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        assert collect(Engine(), TwoStages(), folder, None).unscored == 15  # pyright: ignore[reportArgumentType]
    engine, judge = Engine(), Judge()
    with opened(tmp_path) as folder:
        assert collect(engine, TwoStages(), folder, judge).unscored == 0  # pyright: ignore[reportArgumentType]
    assert engine.said == [] and len(judge.seen) == 15


def test_a_judge_that_stops_is_said_and_what_was_generated_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        got = collect(Engine(), TwoStages(), folder, Judge(dies_after=4))  # pyright: ignore[reportArgumentType]
    assert "no credit" in got.problem
    assert got.done == 30 and 0 < got.unscored < 15


def test_progress_never_goes_back_and_ends_at_the_total(tmp_path: Path) -> None:
    states: list[Progress] = []
    with opened(tmp_path) as folder:
        collect(Engine(), TwoStages(), folder, Judge(), progress=states.append)  # pyright: ignore[reportArgumentType]
    done = [state.done for state in states]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 30
    assert {state.total for state in states} == {30} and states[0].phase == "start"


def test_why_a_job_stopped_before_its_end_is_said(tmp_path: Path) -> None:
    class Stopping(TwoStages):
        def why_stop(self, folder: RunFolder, fatal: str) -> str:
            return fatal or ("the disk is full" if folder.units else "")

    with opened(tmp_path) as folder:
        got = collect(Engine(), Stopping(wave=3), folder, None)  # pyright: ignore[reportArgumentType]
    assert got.problem == "the disk is full"
    assert 0 < got.done < got.total
