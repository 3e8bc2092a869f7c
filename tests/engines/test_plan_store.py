"""The plan store under many writers: whole or not at all, and a damaged entry is mended."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from personascope.engines import PlanStore, Probe, ProbeSet
from personascope.errors import EngineError, StoreError
from personascope.interventions import Plan, Steer

ROUNDS = int(os.environ.get("STORE_ROUNDS", "12"))
"""Rounds of the race; a fault of one in four shows in the first."""

WRITERS = 16


def plan_of(number: int) -> Plan:
    return Plan((Steer(1, np.eye(8, dtype=np.float32)[number % 8], strength=1.0 + number),))


def upload(folder: Path, number: int) -> str:
    """Put a plan in and use it, as a server does that gets it uploaded."""
    plan = plan_of(number)
    digest = PlanStore(folder).put(plan)
    assert PlanStore(folder).plan(digest).digest == plan.digest
    return digest


def race(folder: Path, rounds: int) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(rounds):
            found = list(pool.map(lambda _, number=number: upload(folder, number), range(WRITERS)))
            assert found == [plan_of(number).digest] * WRITERS


def test_writers_of_two_processes_put_in_one_new_plan_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom test_plan_store import race\n"
    code += f"from pathlib import Path\nrace(Path({str(folder)!r}), {ROUNDS})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True
    ) as other:
        race(folder, ROUNDS)
        _, printed = other.communicate(timeout=300)
    assert other.returncode == 0, printed
    store = PlanStore(folder)
    assert store.digests(Plan) == sorted(plan_of(number).digest for number in range(ROUNDS))
    for number in range(ROUNDS):
        assert store.plan(plan_of(number).digest).digest == plan_of(number).digest
    assert list(folder.glob("*.tmp")) == []


@pytest.mark.parametrize("damage", ["no record", "no tensors", "cut", "empty folder", "another plan"])
def test_the_next_upload_mends_a_damaged_plan(tmp_path: Path, damage: str) -> None:
    digest = PlanStore(tmp_path).put(plan_of(0))
    place = tmp_path / digest
    if damage == "cut":
        (place / "plan.json").write_bytes((place / "plan.json").read_bytes()[:40])
    if damage in ("no record", "empty folder"):
        (place / "plan.json").unlink()
    if damage in ("no tensors", "empty folder"):
        (place / "plan.safetensors").unlink()
    if damage == "another plan":
        plan_of(1).save(place)
    with pytest.raises(EngineError, match="is damaged") as caught:
        PlanStore(tmp_path).plan(digest)
    assert caught.value.hint == "send the plan again"
    assert str(tmp_path) not in caught.value.message
    with ThreadPoolExecutor(WRITERS) as pool:
        assert set(pool.map(lambda _: upload(tmp_path, 0), range(WRITERS))) == {digest}
    assert PlanStore(tmp_path).digests(Plan) == [digest]


def test_the_next_upload_mends_damaged_probes(tmp_path: Path) -> None:
    probes = ProbeSet.of([Probe("a", 1, np.ones(8, np.float32))])
    digest = PlanStore(tmp_path).put(probes)
    place = tmp_path / f"{digest}.probes"
    raw = place.read_bytes()
    # One bit of a direction: a file that can be read, and is not what its name says.
    for broken in (raw[:-5], raw[:-1] + bytes([raw[-1] ^ 1])):
        place.write_bytes(broken)
        with pytest.raises(EngineError, match="is damaged"):
            PlanStore(tmp_path).probes(digest)
        assert PlanStore(tmp_path).put(probes) == digest
        assert np.array_equal(PlanStore(tmp_path).probes(digest).directions, probes.directions)


def test_only_its_user_reads_the_store(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = PlanStore(tmp_path / "deep" / "store")
        plan = store.put(plan_of(0))
        probes = store.put(ProbeSet.of([Probe("a", 1, np.ones(8, np.float32))]))
    finally:
        os.umask(mask)
    modes = {
        path.relative_to(store.folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (store.folder, *store.folder.rglob("*"))
    }
    assert modes == {
        ".": 0o700,
        plan: 0o700,
        f"{plan}/plan.json": 0o600,
        f"{plan}/plan.safetensors": 0o600,
        f"{probes}.probes": 0o600,
    }


def test_digests_come_page_by_page(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    assert PlanStore(tmp_path / "none").digests(Plan) == []
    every = sorted(store.put(plan_of(number)) for number in range(5))
    (tmp_path / "notes.txt").write_text("not a plan")
    first = store.digests(Plan, limit=2)
    assert first == every[:2]
    assert store.digests(Plan, after=first[-1], limit=2) == every[2:4]
    assert store.digests(Plan, after=every[-1]) == []
    assert store.digests(ProbeSet) == []


def test_what_is_deleted_is_gone_and_may_come_again(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    digest = store.put(plan_of(0))
    with pytest.raises(EngineError, match="there is no probe set"):
        store.delete(digest, ProbeSet)
    store.delete(digest, Plan)
    with pytest.raises(EngineError, match="there is no plan"):
        store.plan(digest)
    for name in (digest, "../" + digest, ""):
        with pytest.raises(EngineError, match="there is no plan"):
            store.delete(name, Plan)
    assert store.put(plan_of(0)) == digest
    assert json.loads((tmp_path / digest / "plan.json").read_text())["digest"] == digest


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=str(tmp_path)):
        PlanStore(tmp_path / "store").put(plan_of(0))


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="store"):
        PlanStore(tmp_path / "store").put(plan_of(0))
