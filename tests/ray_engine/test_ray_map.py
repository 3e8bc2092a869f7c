"""A map made by two workers, one of which is killed, next to the map of one engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import fakes
import numpy as np
import pytest

from personascope.mapping import MAP, run_map
from personascope.runs import Progress
from personascope.space import PersonaMap
from personascope.store import RunFolder

pytest.importorskip("ray", reason="Ray is not installed here; make test has an environment with it")


def rows(out: Path) -> dict[str, dict]:
    folder = RunFolder.read(out)
    found = [row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()]
    folder.close()
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def test_a_map_made_by_two_workers(spread, local, tmp_path):
    seen: list[int] = []

    def kill_once(step: Progress) -> None:
        seen.append(step.done)
        if len(seen) == 20:
            os.kill(spread.pids[0], signal.SIGKILL)

    options = {"judge": None, "n_boot": 20}
    run_map(local, fakes.corpus(), fakes.SMALL, out=tmp_path / "one", **options)
    done = run_map(spread, fakes.corpus(), fakes.SMALL, out=tmp_path / "two", progress=kill_once, **options)
    assert len(seen) > 20 and not done.collected.partial
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one.keys() == two.keys()
    different = [name for name in one if one[name]["text"] != two[name]["text"]]
    # Rounding may carry a draw over the edge of a token; never more than now and then.
    assert len(different) <= 2
    a, b = PersonaMap.open(tmp_path / "one" / MAP), PersonaMap.open(tmp_path / "two" / MAP)
    cosine = (a.axis * b.axis).sum(1) / np.linalg.norm(a.axis, axis=1) / np.linalg.norm(b.axis, axis=1)
    assert cosine.min() > (0.95 if different else 1 - 1e-6)
    # Neither the number of workers nor Ray is part of what a run is: one engine may take it up.
    again = run_map(local, fakes.corpus(), fakes.SMALL, out=tmp_path / "two", **options)
    assert again.collected.rollouts == len(one)
