from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open

from personascope.errors import StoreError
from personascope.store import RunFolder, TensorFile, TensorPart, TensorSpec
from personascope.store._tensors import from_bfloat16, to_bfloat16, write_tensors

ROWS = pa.table({"id": ["a", "b"]})


def part(value: float = 1.0) -> TensorPart:
    return TensorPart([TensorSpec("x", "F32", (2, 3))], [np.full((2, 3), value, np.float32)], {"note": "n"})


def test_tensors_are_safetensors(tmp_path: Path) -> None:
    path, rng = tmp_path / "t.safetensors", np.random.default_rng(0)
    a, b = rng.standard_normal((4, 2, 3), np.float32), rng.standard_normal((5,), np.float32)
    specs = [
        TensorSpec("ä/1", "F32", a.shape),
        TensorSpec("b", "BF16", b.shape),
        TensorSpec("none", "F32", (0, 3)),
    ]
    write_tensors(path, TensorPart(specs, [a, b, np.zeros((0, 3), np.float32)], {"k": "v"}))
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"k": "v"}
        assert torch.equal(file.get_tensor("ä/1"), torch.from_numpy(a))
        assert torch.equal(file.get_tensor("b"), torch.from_numpy(b).bfloat16())
        assert file.get_tensor("none").shape == (0, 3)
    mine = TensorFile(path)
    np.testing.assert_array_equal(mine.read("ä/1", 2), a[2])
    np.testing.assert_array_equal(mine.read("ä/1"), a)
    np.testing.assert_array_equal(mine.read("b"), torch.from_numpy(b).bfloat16().float().numpy())
    with pytest.raises(IndexError):
        mine.read("ä/1", 4)


def test_bfloat16_rounds_like_torch() -> None:
    values = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    values = np.concatenate([values, np.float32([0, -0.0, 1e-40, 3e38, 1.00390625, 1.01171875])])
    want = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), want)


def test_wrong_shape_and_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ValueError, match="announced"):
        write_tensors(path, TensorPart([TensorSpec("x", "F32", (2,))], [np.zeros(3, np.float32)]))
    write_tensors(path, part())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="not a whole safetensors file"):
        TensorFile(path)


def test_commit_and_generations(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {"seed": 1}, {"command": "c"}) as folder:
        folder.commit(3, rows=ROWS, meta={"n": 2}, parts={"sums": part(), "kept": part(5)})
        folder.commit(3, rows=ROWS, meta={"n": 3}, parts={"sums": part(2)}, carry=("kept", "other"))
        assert [path.name for path in (tmp_path / "run/units").iterdir()] == ["00003.g1"]
    folder = RunFolder.read(tmp_path / "run")
    assert folder.units[3].generation == 1 and folder.units[3].meta == {"n": 3}
    sums, kept = folder.part(3, "sums"), folder.part(3, "kept")
    assert sums is not None and sums.read("x")[0, 0] == 2
    assert kept is not None and kept.read("x")[0, 0] == 5
    assert folder.part(3, "other") is None
    assert folder.rows(3).to_pylist() == [{"id": "a"}, {"id": "b"}]
    with pytest.raises(StoreError, match="not open for writing"):
        folder.drop_part(3, "sums")


def test_leftovers_go_at_the_next_start(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, {}, {}) as folder:
        for generation in range(2):
            folder.commit(0, rows=ROWS, meta={"n": generation}, parts={})
        # As if the process had died between the rename and the removal of the generation before.
        (tmp_path / "units/00000").mkdir()
        (tmp_path / "units/00000/unit.json").write_text("{}")
        (tmp_path / "units/00001.tmp-77").mkdir()
        (tmp_path / "map.json.tmp-77").write_text("half")
    with RunFolder.open(tmp_path, {}, {}) as folder:
        assert folder.units[0].meta == {"n": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "manifest.json", "units"]
    assert [path.name for path in (tmp_path / "units").iterdir()] == ["00000.g1"]


def test_refusals(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {"a": {"b": [1]}}, {}):
        pass
    with pytest.raises(StoreError, match=r"a\.b is \[1\] there and \[2\] here"):
        RunFolder.open(tmp_path / "run", {"a": {"b": (2,)}}, {})
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with pytest.raises(StoreError, match=r"letter\.txt"):
        RunFolder.open(tmp_path / "home", {}, {}, restart=True)
    assert (tmp_path / "home/letter.txt").exists()
    with pytest.raises(StoreError):
        RunFolder.read(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not be written"):
        RunFolder.open(tmp_path / "file", {}, {})


def test_lock(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from personascope.store import RunFolder\n"
        "from personascope.errors import StoreError\n"
        "try: RunFolder.open(Path(sys.argv[1]), {}, {})\n"
        "except StoreError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with RunFolder.open(tmp_path, {}, {}):
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "another process is writing" in said
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_restart_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.open(tmp_path, {"seed": 1}, {}) as folder:
        folder.commit(0, rows=ROWS, meta={}, parts={})
        folder.write_shard("roles", "bard", part())
    from personascope.store import _folder

    def dies(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(_folder, "remove", dies)
    with pytest.raises(KeyboardInterrupt):
        RunFolder.open(tmp_path, {"seed": 2}, {}, restart=True)
    monkeypatch.undo()
    with RunFolder.open(tmp_path, {"seed": 3}, {}) as folder:
        assert not folder.units and not folder.shards("roles")
        assert folder.manifest["identity"] == {"seed": 3}
