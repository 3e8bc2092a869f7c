"""A run of the Transformers engine, killed again and again, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import fakes
import pytest
import torch

from personascope.engines import TransformersEngine
from personascope.judge import RulesJudge
from personascope.mapping import MAP, collect_rollouts, open_run
from personascope.mapping._map import make_space
from personascope.mapping._publish import publish
from personascope.store import RunFolder
from tiny import load_tiny

KILLS = 20


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def engine(request: pytest.FixtureRequest) -> TransformersEngine:
    return TransformersEngine(load_tiny("llama", dtype=request.param), max_batch=24)


def map_into(engine: TransformersEngine, out: Path) -> None:
    design = fakes.design_for(engine, corpus=fakes.corpus())  # pyright: ignore[reportArgumentType]
    with open_run(engine, design, out, RulesJudge()) as folder:
        collect_rollouts(engine, design, folder, RulesJudge())
        space, vectors = make_space(folder, design, engine.info, n_boot=20)
        publish(folder, design, engine.info, space, vectors=vectors)


def in_a_child(engine: TransformersEngine, out: Path, kill_after: float | None = None) -> bool:
    """Run in a fork (a new interpreter needs seconds for its imports); whether it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            map_into(engine, out)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert kill_after is not None or status == 0
    return os.WIFSIGNALED(status)


def rows(out: Path) -> list[dict]:
    folder = RunFolder.read(out)
    return [row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()]


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "roles").glob("*"))}


def test_what_a_killed_publish_left_is_cleared_away(engine: TransformersEngine, tmp_path: Path) -> None:
    in_a_child(engine, tmp_path / "run")
    left = tmp_path / "run" / f"{MAP}.tmp-4711"
    left.mkdir()
    (left / "map.safetensors").write_bytes(b"half")
    in_a_child(engine, tmp_path / "run")
    assert not left.exists() and (tmp_path / "run" / MAP / "map.safetensors").exists()


def test_killed_at_20_random_moments(engine: TransformersEngine, tmp_path: Path) -> None:
    begun = time.monotonic()
    in_a_child(engine, tmp_path / "calm")
    whole = time.monotonic() - begun
    rng = random.Random(11)
    folders, killed, units_seen = [tmp_path / "killed-0"], 0, set()
    # Other work on the machine makes a run slower or quicker than the one that was timed: the limit follows.
    # A run that ended before it was killed has nothing more to interrupt, and another one is begun.
    limit = whole / 4
    for number in range(6 * KILLS):
        if killed >= KILLS and len(units_seen) >= 3:
            break
        out = folders[-1]
        if in_a_child(engine, out, kill_after=rng.uniform(0.0, limit)):
            killed += 1
            units_seen.add(len(RunFolder.read(out).units) if (out / "manifest.json").exists() else -1)
            if number >= KILLS // 2 and len(units_seen) < 3:
                limit *= 1.3
        else:
            folders.append(tmp_path / f"killed-{len(folders)}")
            limit *= 0.7
    assert killed >= KILLS and len(units_seen) >= 3
    calm = rows(tmp_path / "calm")
    assert len({row["id"] for row in calm}) == len(calm) == len(fakes.design_for(engine))  # pyright: ignore[reportArgumentType]
    for out in folders:
        in_a_child(engine, out)
        # The texts come from the per-request seeds, whatever was drawn before the kill.
        assert rows(out) == calm
        assert shards(out) == shards(tmp_path / "calm")
        tensors = f"{MAP}/map.safetensors"
        assert (out / tensors).read_bytes() == (tmp_path / "calm" / tensors).read_bytes()
        assert not [path for path in out.rglob("*") if ".tmp-" in path.name or ".new-" in path.name]
