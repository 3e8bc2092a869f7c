from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import fakes
import numpy as np
import pytest

from personascope.errors import EngineError, StoreError
from personascope.mapping import RunSums, estimate, estimate_disk
from personascope.mapping._run import unscored_rows
from personascope.mapping._sums import response_norms
from personascope.store import RunFolder, TensorFile, _folder, read_json


def all_rows(out: Path) -> list[dict]:
    folder = RunFolder.read(out)
    return [row for index in folder.units for row in folder.rows(index).to_pylist()]


def sums_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "roles").glob("*"))}


def kept(out: Path) -> dict[str, bytes]:
    folder = RunFolder.read(out)
    parts = [folder.part(index, "kept") for index in folder.units]
    return {name: part.read(name).tobytes() for part in parts if part for name in part.specs}


def expected(engine: fakes.FakeEngine, design, judge: fakes.FakeJudge | None):
    """The sums made the plain way: every response by itself, in float64."""
    import asyncio

    from personascope.judge import JudgeItem

    done = list(engine.run([design.request(r) for r in design]))
    pooled = {c.id: c.pooled for c in done if c.pooled is not None}
    tokens = {c.id: c.token_ids for c in done}
    neutral = [r for r in design if r.role == "default" and r.prompt_index == 1 and tokens[r.id]]
    threshold = np.quantile([information(design, r.id, len(tokens[r.id])) for r in neutral], 0.95)
    cells: dict[tuple[str, str], list[np.ndarray]] = {}
    for rollout in design:
        if rollout.id not in pooled:
            continue
        bucket = "fully"
        if rollout.role != "default":
            if judge is not None:
                item = JudgeItem(rollout.id, rollout.role, "", "", "", "")
                score = asyncio.run(judge.score(item)).score
                bucket = {3: "fully", 2: "somewhat", None: "none"}.get(score, "other")
            if bucket == "fully" and information(design, rollout.id, len(tokens[rollout.id])) <= threshold:
                bucket = "plain"
        cells.setdefault((rollout.role, bucket), []).append(pooled[rollout.id])
    return cells


def information(design, id: str, count: int) -> float:
    """The role information of a response of the fake engine, made the plain way."""
    own = fakes.logprobs(fakes.number(f"{design.seed}{id}"), count)
    return float(np.float32(np.mean(own - fakes.logprobs(fakes.number(f"none {id}"), count))))


def check_sums(out: Path, engine, design, judge) -> None:
    sums = RunSums(RunFolder.read(out), design, engine.info.n_layers, engine.info.d_model)
    cells = expected(fakes.FakeEngine(engine.info.n_layers, engine.info.d_model), design, judge)
    nothing = [np.zeros((engine.info.n_layers, engine.info.d_model))]
    for bucket in ("fully", "plain", "somewhat", "other"):
        counts = sums.counts(bucket)
        assert counts.shape == (len(sums.roles), design.n_folds)
        for layer in range(sums.n_layers):
            values = sums.sums(bucket, layer)
            for place, role in enumerate(sums.roles):
                want = cells.get((role, bucket), [])
                assert counts[place].sum() == len(want)
                np.testing.assert_allclose(
                    values[place].sum(0), np.sum(want or nothing, axis=0)[layer], rtol=1e-4, atol=1e-4
                )
                assert not values[place][counts[place] == 0].any()
    assert sums.default_counts().sum() == len(cells["default", "fully"])
    np.testing.assert_allclose(
        sums.default_sums(1).sum(0), np.sum(cells["default", "fully"], axis=0)[1], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("judged", [True, False])
def test_full_run(tmp_path: Path, judged: bool) -> None:
    engine, judge = fakes.FakeEngine(), fakes.FakeJudge() if judged else None
    design = fakes.design_for(engine)
    result = fakes.run(tmp_path / "run", engine=engine, judge=judge, design=design)
    assert (result.rollouts, result.unscored, result.partial, result.problem) == (len(design), 0, False, "")
    rows = all_rows(tmp_path / "run")
    assert [row["id"] for row in rows] == [rollout.id for rollout in design]
    assert sorted(engine.generated) == sorted(row["id"] for row in rows)
    assert result.empty == sum(row["status"] == "empty" for row in rows) > 0
    if judge:
        assert not any(id.startswith("default") for id in judge.seen)
        assert sum(result.scores.values()) == len(judge.seen) == len(set(judge.seen))
    else:
        assert {row["status"] for row in rows} == {"default", "unjudged", "empty"}
    check_sums(tmp_path / "run", engine, design, judge)
    assert not list((tmp_path / "run").glob("units/*/sums.safetensors"))
    assert not list((tmp_path / "run").rglob("*.tmp-*"))
    assert (response_norms(RunFolder.read(tmp_path / "run")) > 0).all()
    marked = {rollout.id for place, rollout in enumerate(design) if place in (design.kept() or ())}
    assert set(kept(tmp_path / "run")) == marked - {row["id"] for row in rows if row["status"] == "empty"}


def test_second_run_generates_nothing(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=fakes.FakeJudge())
    before = sums_bytes(tmp_path)
    engine, judge = fakes.FakeEngine(), fakes.FakeJudge()
    assert not fakes.run(tmp_path, engine=engine, judge=judge).partial
    assert engine.generated == judge.seen == []
    assert sums_bytes(tmp_path) == before


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """20 kills later the sums are those of an undisturbed run to the last bit, each rollout there once."""
    fakes.run(tmp_path / "calm", judge=fakes.FakeJudge())
    out, rng = tmp_path / "killed", random.Random(5)
    killed = 0
    for _ in range(20):
        # A fork, because a new interpreter would need seconds for its imports.
        child = os.fork()
        if child == 0:
            try:
                fakes.run(out, engine=fakes.FakeEngine(delay=0.004), judge=fakes.FakeJudge())
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.02, 0.4))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed >= 3
    fakes.run(out, judge=fakes.FakeJudge())
    ids = [row["id"] for row in all_rows(out)]
    assert ids == [rollout.id for rollout in fakes.design_for(fakes.FakeEngine())]
    assert sums_bytes(out) == sums_bytes(tmp_path / "calm")
    assert kept(out) == kept(tmp_path / "calm")
    assert not list(out.rglob("*.tmp-*"))


@pytest.mark.parametrize("step", range(0, 92, 7))
def test_stopped_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A process that dies at any fsync leaves a folder from which the run goes on to the same end."""

    class Dead(BaseException):
        pass

    fakes.run(tmp_path / "calm", judge=fakes.FakeJudge())
    calls, real = 0, os.fsync

    def dying(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > step:
            raise Dead
        real(handle)

    monkeypatch.setattr(os, "fsync", dying)
    with pytest.raises(Dead):
        fakes.run(tmp_path / "run", judge=fakes.FakeJudge())
    monkeypatch.undo()
    fakes.run(tmp_path / "run", judge=fakes.FakeJudge())
    assert sums_bytes(tmp_path / "run") == sums_bytes(tmp_path / "calm")


def test_failing_judge_is_retried_without_generation(tmp_path: Path) -> None:
    engine, flaky = fakes.FakeEngine(), fakes.FakeJudge(failing=30)
    design = fakes.design_for(engine)
    result = fakes.run(tmp_path, engine=engine, judge=flaky)
    assert result.partial
    assert 0.15 * len(flaky.seen) < result.unscored < 0.45 * len(flaky.seen)
    assert str(result.unscored) in result.problem
    unscored = {row["id"] for row in all_rows(tmp_path) if row["status"] == "unscored"}
    assert {row["id"] for row in unscored_rows(tmp_path, 10_000)} == unscored
    check_sums(tmp_path, engine, design, flaky)

    engine, steady = fakes.FakeEngine(), fakes.FakeJudge()
    result = fakes.run(tmp_path, engine=engine, judge=steady)
    assert not result.partial
    assert engine.generated == []
    assert set(steady.seen) == unscored and len(steady.seen) == len(unscored)
    check_sums(tmp_path, engine, design, steady)
    assert [row["id"] for row in all_rows(tmp_path)] == [rollout.id for rollout in design]
    assert not list(tmp_path.glob("units/*/pending.safetensors"))
    assert set(kept(tmp_path)) <= {rollout.id for rollout in design}
    assert len(kept(tmp_path)) > 10


def test_judge_that_gives_up_stops_the_run(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    result = fakes.run(tmp_path, engine=engine, judge=fakes.FakeJudge(fatal_after=20))
    assert result.partial and "quota is spent" in result.problem
    assert len(engine.generated) == result.rollouts < result.total
    rest = fakes.FakeEngine()
    result = fakes.run(tmp_path, engine=rest, judge=fakes.FakeJudge())
    assert not result.partial
    assert not set(rest.generated) & set(engine.generated)
    assert set(rest.generated) | set(engine.generated) == {r.id for r in fakes.design_for(rest)}


def test_other_run_in_the_folder(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=fakes.FakeJudge())
    other = fakes.FakeEngine(model="lab/other")
    with pytest.raises(StoreError, match=r"model\.model_id is 'lab/hash' there and 'lab/other' here"):
        fakes.run(tmp_path, engine=other, judge=fakes.FakeJudge())
    engine = fakes.FakeEngine()
    with pytest.raises(StoreError, match="seed is 0 there and 7 here"):
        fakes.run(tmp_path, judge=fakes.FakeJudge(), design=fakes.design_for(engine, seed=7))
    with pytest.raises(StoreError, match="corpus is"):
        fakes.run(tmp_path, judge=fakes.FakeJudge(), design=fakes.design_for(engine, corpus=fakes.corpus(7)))
    with pytest.raises(StoreError, match="judge is"):
        fakes.run(tmp_path, judge=None)
    assert not fakes.run(tmp_path, engine=other, judge=fakes.FakeJudge(), restart=True).partial
    assert read_json(tmp_path / "manifest.json")["identity"]["model"]["model_id"] == "lab/other"


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.run(tmp_path / "calm", judge=fakes.FakeJudge())
    written, real = 0, _folder.write_tensors

    def full(path: Path, part) -> str:
        nonlocal written
        written += 1
        if written > 6:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, part)

    monkeypatch.setattr(_folder, "write_tensors", full)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        fakes.run(tmp_path / "run", judge=fakes.FakeJudge())
    assert caught.value.exit_code == 1
    assert not list((tmp_path / "run").rglob("*.tmp-*"))
    monkeypatch.undo()
    engine = fakes.FakeEngine()
    fakes.run(tmp_path / "run", engine=engine, judge=fakes.FakeJudge())
    assert len(engine.generated) < len(fakes.design_for(engine))
    assert sums_bytes(tmp_path / "run") == sums_bytes(tmp_path / "calm")


def test_a_folder_renamed_while_it_runs_is_an_error(tmp_path: Path) -> None:
    class Renaming(fakes.FakeEngine):
        def run(self, requests):
            if len(self.generated) > 40 and (tmp_path / "run").exists():
                (tmp_path / "run").rename(tmp_path / "moved")
            yield from super().run(requests)

    with pytest.raises(StoreError, match="run was moved or removed while the run wrote to it"):
        fakes.run(tmp_path / "run", engine=Renaming(), judge=None)
    assert not (tmp_path / "run").exists()
    (tmp_path / "moved").rename(tmp_path / "run")
    assert not fakes.run(tmp_path / "run", judge=None).partial


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda made: made[1:], "returned nothing for 1 of"),
        (lambda made: [*made, made[0]], "no longer. asked for"),
        (lambda made: [replaced(made[0], id="x"), *made[1:]], "was not .or no longer. asked for"),
        (lambda made: [replaced(c, pooled=np.full((3, 8), np.nan)) for c in made], "not finite"),
        (lambda made: [replaced(c, pooled=np.ones((4, 8)), token_ids=(1,)) for c in made], r"\[4, 8\]"),
        (lambda made: [replaced(c, plan_digest="ab") for c in made], "applied the plan ab"),
    ],
)
def test_engine_that_breaks_the_contract(tmp_path: Path, spoil, message: str) -> None:
    class Broken(fakes.FakeEngine):
        def run(self, requests):
            yield from spoil(list(super().run(requests)))

    with pytest.raises(EngineError, match=message):
        fakes.run(tmp_path, engine=Broken(), judge=None)
    assert not RunFolder.read(tmp_path).units


def replaced(completion, **changes):
    import dataclasses

    return dataclasses.replace(completion, **changes)


def test_estimate(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    design = fakes.design_for(engine)
    made = estimate(engine, design, judge=None)
    assert made.rollouts == len(design)
    assert 0 < made.response_tokens < 8 * len(design)
    assert made.seconds is not None and made.seconds > 0
    assert made.judge is None
    assert estimate(engine, design, judge=None, probe=0).seconds is None
    assert tmp_path.exists()


def test_memory_and_disk_are_bounded(tmp_path: Path) -> None:
    """A run of 3000 responses of 8 x 4096: flat memory after the first units, disk as estimated."""
    import psutil

    profile = fakes.Profile("big", None, None, 4, 38, 8, min_fully=2, min_somewhat=2, crossed=True, keep=100)
    engine = fakes.FakeEngine(8, 4096)
    corpus = fakes.corpus(n_roles=135)
    design = fakes.design_for(engine, profile, unit_size=128, corpus=corpus)
    assert 2900 < len(design) < 3100
    resident: list[int] = []
    process, judge = psutil.Process(), fakes.FakeJudge()

    def watch(progress) -> None:
        if progress.done % 100 == 0:
            resident.append(process.memory_info().rss)

    from personascope.mapping import collect_rollouts, open_run

    with open_run(engine, design, tmp_path, judge) as folder:
        collect_rollouts(engine, design, folder, judge, progress=watch)
        disk = folder.disk_bytes()
    pooled_bytes = 8 * 4096 * 4
    warm, late = max(resident[5:12]), max(resident[12:])
    assert late - warm < 40 * 2**20 < 0.2 * len(design) * pooled_bytes
    slots = sum(
        len(TensorFile(path).specs) and TensorFile(path).specs[path.stem].shape[1]
        for path in (tmp_path / "roles").glob("*")
    )
    guess = estimate_disk(engine.info, design, mean_tokens=3.5)
    want = guess.sums + guess.kept + guess.rollouts
    assert disk <= want * 1.02
    present = slots * pooled_bytes + guess.kept + guess.rollouts
    assert abs(disk / present - 1) < 0.1
