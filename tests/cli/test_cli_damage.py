"""What lies on the disk was changed: every command that reads it says so, and names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_case import save_model, tree, write_corpus

from helpers.cli import Ran, personascope
from personascope.directions import _norms_file
from personascope.errors import StoreError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a corpus and a finished run."""
    folder = tmp_path_factory.mktemp("made")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    done = map_again(folder)
    assert done.code == 0, done.err
    (folder / "chat.json").write_text(json.dumps([{"role": "user", "content": "Who are you?"}]))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


def map_again(place: Path) -> Ran:
    """Map the model at the place where the run was made; the run's identity has its path."""
    return personascope(
        "map", place / "model", "--corpus", place / "corpus", "--profile", "quick", "--judge", "none",
        "--default-samples", "4", "--out", place / "run",
    )  # fmt: skip


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flip_axis(path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + length])["axis"]["data_offsets"]
    flip(path, 8 + length + (start + end) // 2)


COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "show": lambda at: ["report", at / "run"],
    "project": lambda at: ["project", at / "run", at / "chat.json", "--model", at / "model"],
    "steer": lambda at: ["steer", at / "run", "--anyway", "--model", at / "model"],
    "plan steer": lambda at: [
        "plan", "steer", at / "run", "0.1", "--out", at / "plan", "--anyway", "--model", at / "model"
    ],
    "plan cap": lambda at: [
        "plan", "cap", at / "run", "--out", at / "plan", "--axis-percentile", "25", "--anyway"
    ],
    "export released": lambda at: ["export", at / "run", "--to", "released", "--out", at / "out"],
    "export gguf": lambda at: ["export", at / "run", "--to", "gguf", "--out", at / "out.gguf"],
    "simulate": lambda at: ["simulate", at / "run", "--model", at / "model", "--out", at / "talks"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_one_bit_of_the_axis_flipped(place: Path, name: str) -> None:
    flip_axis(place / "run/map/map.safetensors")
    done = personascope(*COMMANDS[name](place))
    assert done.code == 1 and "Traceback" not in done.err, (done.out, done.err)
    said = " ".join(done.err.split())
    assert "axis in" in said and "map.safetensors was changed since it was written" in said
    assert not any((place / out).exists() for out in ("plan", "out", "out.gguf", "talks"))


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "shard deleted": ("roles/ghost.safetensors", Path.unlink, "is missing"),
    "shard flipped": ("roles/ghost.safetensors", flip, "was changed since it was written"),
    "default's shard deleted": ("roles/default.safetensors", Path.unlink, "is missing"),
    "kept deleted": ("units/*/kept.safetensors", Path.unlink, "is missing"),
    "kept flipped": ("units/*/kept.safetensors", flip, "was changed since it was written"),
    "rows flipped": ("units/*/rollouts.parquet", lambda path: flip(path, 40), "was changed since"),
    "record changed": (
        "units/*/unit.json",
        lambda path: path.write_text(path.read_text().replace('"norm_count": ', '"norm_count": 1')),
        "was changed since it was written",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_run_whose_files_were_changed_makes_no_other_map(made: Path, tmp_path: Path, name: str) -> None:
    pattern, spoil, said = DAMAGE[name]
    kept = Path(shutil.copytree(made / "run", tmp_path / "run"))
    try:
        spoil(path := next(iter(sorted((made / "run").glob(pattern)))))
        before = tree(made / "run")
        done = map_again(made)
        assert done.code == 1 and "Traceback" not in done.err, (done.out, done.err)
        assert f"{path.name} {said}" in " ".join(done.err.split()), done.err
        assert tree(made / "run") == before
    finally:
        shutil.rmtree(made / "run")
        kept.rename(made / "run")


def test_an_earlier_run_without_its_shard_names_both_places(made: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(made / "run", tmp_path / "run"))
    try:
        for path in [made / "run/manifest.json", *(made / "run/units").glob("*/unit.json")]:
            record = json.loads(path.read_text())
            for later in ("checksum", "checksums", "sha256"):
                record.pop(later, None)
            path.write_text(json.dumps(record))
        (made / "run/checksums.json").unlink()
        done = map_again(made)
        assert done.code == 0, done.err
        assert done.err.count("without checksums") == 1
        (made / "run/roles/ghost.safetensors").unlink()
        done = map_again(made)
        assert done.code == 1 and "Traceback" not in done.err
        said = " ".join(done.err.split())
        assert "the sums of ghost are missing" in said and "roles/ghost.safetensors" in said
    finally:
        shutil.rmtree(made / "run")
        kept.rename(made / "run")


def test_steering_goes_on_where_norms_cannot_be_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _record: object) -> None:
        raise StoreError(f"{path} could not be written: Read-only file system")

    monkeypatch.setattr(_norms_file, "write_record", full)
    done = personascope(*COMMANDS["steer"](place), "--max-new-tokens", "2", "--strengths", "0.1")
    assert done.code == 0, done.err
    assert "the norms are not kept" in done.err and "Read-only file system" in " ".join(done.err.split())
    # The command whose purpose they are fails.
    (place / "chats.json").write_text(
        json.dumps([[{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]])
    )
    done = personascope("norms", place / "run", "--chats", place / "chats.json", "--model", place / "model")
    assert done.code == 1 and "Read-only file system" in " ".join(done.err.split())


def test_three_roles_are_enough(tmp_path: Path, made: Path) -> None:
    write_corpus(tmp_path / "corpus", roles=3)
    done = personascope(
        "map", made / "model", "--corpus", tmp_path / "corpus", "--profile", "quick", "--judge", "none",
        "--default-samples", "4", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    for command in (["show", tmp_path / "run", "--scores"], ["report", tmp_path / "run"]):
        done = personascope(*command)
        assert done.code == 0, done.err
    write_corpus(tmp_path / "two", roles=2)
    done = personascope(
        "map", made / "model", "--corpus", tmp_path / "two", "--profile", "quick", "--judge", "none",
        "--out", tmp_path / "run2",
    )  # fmt: skip
    assert done.code != 0 and "Traceback" not in done.err and not (tmp_path / "run2/map").exists(), done.err
