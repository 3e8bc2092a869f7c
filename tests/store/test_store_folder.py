from __future__ import annotations

import json
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


def test_a_run_may_grow_out_of_an_earlier_one_and_not_back(tmp_path: Path) -> None:
    small, grown = {"seed": 0, "judge": "a"}, {"seed": 0, "judge": "a then b"}
    with RunFolder.open(tmp_path / "r", small, {"note": 1}) as folder:
        folder.commit(0, rows=ROWS, meta={}, parts={})
    with RunFolder.open(tmp_path / "r", grown, {}, earlier=[small]) as folder:
        assert list(folder.units) == [0]
        assert folder.manifest["notes"] == {"note": 1}
    assert RunFolder.read(tmp_path / "r").manifest["identity"] == grown
    with pytest.raises(StoreError, match="another run"):
        RunFolder.open(tmp_path / "r", small, {})
    other = {"seed": 1, "judge": "a then b"}
    with pytest.raises(StoreError, match="another run"):
        RunFolder.open(tmp_path / "r", other, {}, earlier=[{**other, "judge": "a"}])


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


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def made_run(path: Path) -> Path:
    with RunFolder.open(path, {"seed": 1}, {}) as folder:
        folder.commit(0, rows=ROWS, meta={"n": 2}, parts={"sums": part(), "kept": part(5)})
        folder.write_shard("roles", "bard", part(3))
        folder.write_shard("roles", "ghost", part(4))
    return path


@pytest.mark.parametrize("name", ["rollouts.parquet", "sums.safetensors", "kept.safetensors"])
def test_a_changed_or_missing_file_of_a_unit_is_named(tmp_path: Path, name: str) -> None:
    path = made_run(tmp_path / "run") / "units/00000" / name

    def read() -> None:
        folder = RunFolder.read(tmp_path / "run")
        folder.rows(0) if name.endswith("parquet") else folder.part(0, path.stem)

    read()
    # Deep inside the file, and so in no place that its own format checks.
    flip(path, 10 if name.endswith("parquet") else -1)
    with pytest.raises(StoreError, match=rf"{name} was changed since it was written"):
        read()
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name}"):
        read()


def test_a_changed_or_missing_shard_is_named(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run") / "roles/bard.safetensors"
    assert RunFolder.read(tmp_path / "run").shards("roles") == {"bard", "ghost"}
    flip(path)
    with pytest.raises(StoreError, match=r"bard\.safetensors was changed"):
        RunFolder.read(tmp_path / "run").shard("roles", "bard")
    path.unlink()
    folder = RunFolder.read(tmp_path / "run")
    assert folder.shards("roles") == {"bard", "ghost"}
    with pytest.raises(StoreError, match=r"bard\.safetensors is missing"):
        folder.shard("roles", "bard")
    assert folder.shard("roles", "ghost") is not None
    assert folder.shard("roles", "nobody") is None


def test_a_record_whose_checksum_lost_its_name_is_not_taken_for_an_early_one(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    path = run / "units/00000/unit.json"
    record = json.loads(path.read_text())
    for name in ("checksums", "x", ""):
        path.write_text(
            json.dumps({(name if key == "checksum" else key): one for key, one in record.items()})
        )
        with pytest.raises(StoreError, match=f"has its checksum in the field '{name}'"):
            RunFolder.read(run)
    path.write_text(json.dumps({key: one for key, one in record.items() if key != "checksum"}))
    assert RunFolder.read(run).units[0].meta


def test_records_are_checked(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    for name, change, said in [
        ("manifest.json", {"notes": {"by": "me"}}, r"manifest\.json was changed since it was written"),
        ("manifest.json", {"identity": 3}, r"the field 'identity' is 3: Input should be an object"),
        ("units/00000/unit.json", {"n": 3}, r"unit\.json was changed since it was written"),
        ("units/00000/unit.json", {"sha256": {"x": 1}}, r"the field 'sha256\.x' is 1"),
        ("checksums.json", {"sha256": {}}, r"checksums\.json was changed since it was written"),
    ]:
        text = (run / name).read_text()
        (run / name).write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(StoreError, match=said):
            RunFolder.read(run)
        (run / name).write_text(text)
    (run / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match="nested too deeply"):
        RunFolder.read(run)
    with (run / "manifest.json").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(StoreError, match=r"134,217,728 bytes, a record has at most"):
        RunFolder.read(run)


def test_a_run_of_an_earlier_version_opens_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made_run(tmp_path / "run")
    (run / "checksums.json").unlink()
    for name in ("manifest.json", "units/00000/unit.json"):
        record = json.loads((run / name).read_text())
        for key in ("checksum", "checksums", "sha256"):
            record.pop(key, None)
        (run / name).write_text(json.dumps(record))
    for _ in range(3):
        folder = RunFolder.read(run)
    assert folder.shards("roles") == {"bard", "ghost"} and folder.units[0].meta == {"n": 2}
    assert folder.rows(0).num_rows == 2 and folder.part(0, "sums") is not None
    assert folder.part(0, "other") is None
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "earlier version, without checksums" in said[0]
    with RunFolder.open(run, {"seed": 1}, {}) as folder:
        folder.commit(1, rows=ROWS, meta={"n": 1}, parts={"sums": part()})
        folder.write_shard("roles", "witch", part())
    assert RunFolder.read(run).shards("roles") == {"bard", "ghost", "witch"}
    flip(run / "units/00001/sums.safetensors")
    with pytest.raises(StoreError, match="was changed"):
        RunFolder.read(run).part(1, "sums")


def test_a_shard_that_a_kill_left_unrecorded_counts_as_not_written(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    (run / "roles/witch.safetensors").write_bytes((run / "roles/bard.safetensors").read_bytes())
    folder = RunFolder.read(run)
    assert "witch" not in folder.shards("roles") and folder.shard("roles", "witch") is None


def test_a_folder_that_was_moved_while_a_run_writes_is_noticed(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", {}, {}) as folder:
        folder.commit(0, rows=ROWS, meta={}, parts={})
        (tmp_path / "run").rename(tmp_path / "renamed")
        for act in (
            lambda: folder.commit(1, rows=ROWS, meta={}, parts={}),
            lambda: folder.write_shard("roles", "bard", part()),
        ):
            with pytest.raises(StoreError, match=r"run was moved or removed while the run wrote to it"):
                act()
        assert not (tmp_path / "run").exists()
        with RunFolder.open(tmp_path / "run", {}, {}), pytest.raises(StoreError, match="was moved"):
            folder.commit(1, rows=ROWS, meta={}, parts={})
    assert list(RunFolder.read(tmp_path / "renamed").units) == [0]


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"x": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 2**64]}},
        {"x": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F8", "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"__metadata__": {"a": 1}},
        {"__metadata__": [1]},
        {"x": 1},
        [1],
    ],
)
def test_a_header_that_cannot_be(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 64)
    with pytest.raises(StoreError, match="not a whole safetensors file"):
        TensorFile(path)
