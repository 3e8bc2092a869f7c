"""Bad input: one clear error that names the thing and the hint, exit code 1 or 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli_case import save_model, tree, write_corpus

from helpers.cli import Ran, personascope, personascope_process

Case = Callable[[Path], tuple[list[str | Path], dict[str, object]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, another model, a corpus and a finished run."""
    folder = tmp_path_factory.mktemp("made")
    save_model(folder / "model")
    save_model(folder / "other", "qwen3")
    save_model(folder / "base", "gpt2")
    write_corpus(folder / "corpus")
    done = personascope(*mapping(folder))
    assert done.code == 0, done.err
    (folder / "chat.json").write_text(json.dumps([{"role": "user", "content": "Who are you?"}]))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


def mapping(
    place: Path, *more: str | Path, model: str | Path | None = None, out: str = "run"
) -> list[str | Path]:
    return [
        "map", model or place / "model", "--corpus", place / "corpus", "--profile", "quick",
        "--judge", "none", "--default-samples", "4", "--out", place / out, *more,
    ]  # fmt: skip


def refused(done: Ran, *words: str, code: int = 1) -> None:
    assert done.code == code, (done.code, done.out, done.err)
    assert "Traceback" not in done.err
    said = " ".join(done.err.split())
    assert said.count("error:") == 1 or code == 2, done.err
    for word in words:
        assert word in said, (word, done.err)


def test_no_such_model(place: Path) -> None:
    before = tree(place)
    refused(personascope(*mapping(place, model="nobody/nothing-1b", out="new")), "nobody/nothing-1b", "->")
    assert tree(place) == before


def test_a_model_without_a_chat_template(place: Path) -> None:
    before = tree(place)
    refused(personascope(*mapping(place, model=place / "base", out="new")), "chat template", "->")
    assert tree(place) == before


def test_an_empty_role(place: Path) -> None:
    data = yaml.safe_load((place / "corpus/roles.yaml").read_text())
    data["roles"][2]["prompts"] = [""]
    (place / "corpus/roles.yaml").write_text(yaml.safe_dump(data))
    before = tree(place)
    refused(personascope(*mapping(place, out="new")), "ghost", "prompts", "->")
    checked = personascope("corpus", "check", place / "corpus")
    assert checked.code == 1 and "ghost" in checked.out and "prompts" in checked.out and not checked.err
    assert tree(place) == before


def test_truncated_weights(place: Path) -> None:
    weights = place / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    before = tree(place)
    refused(personascope(*mapping(place, out="new")), "model", "->")
    assert tree(place) == before


def test_a_file_that_is_no_gguf(place: Path) -> None:
    (place / "model.gguf").write_bytes(b"not a model at all" * 100)
    before = tree(place)
    refused(personascope(*mapping(place, model=place / "model.gguf", out="new")), "model.gguf", "->")
    assert tree(place) == before


def test_a_full_disk_and_then_room_again(place: Path) -> None:
    refused(personascope_process(*mapping(place, out="new"), limit_file_size=4096), "->")
    left = tree(place / "new") if (place / "new").exists() else {}
    assert not [name for name in left if name.endswith("map.safetensors")]
    done = personascope(*mapping(place, out="new"))
    assert done.code == 0, done.err
    assert tree(place / "new")["map/map.safetensors"] == tree(place / "run")["map/map.safetensors"]


def test_a_map_of_another_model(place: Path) -> None:
    before = tree(place)
    done = personascope("project", place / "run", place / "chat.json", "--model", place / "other")
    refused(done, "->")
    assert tree(place) == before


def test_a_run_folder_of_another_run(place: Path) -> None:
    assert personascope(*mapping(place, out="own")).code == 0
    before = tree(place)
    refused(personascope(*mapping(place, "--seed", "7", out="own")), "another run", "seed", "->")
    refused(personascope(*mapping(place, model=place / "other", out="own")), "another run", "model", "->")
    assert tree(place) == before


@pytest.mark.parametrize("name", ["map/map.json", "map/map.safetensors"])
def test_a_truncated_map(place: Path, name: str) -> None:
    file = place / "run" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(personascope("show", place / "run"), name.split("/")[1], "->")


def test_a_damaged_unit(place: Path) -> None:
    assert personascope(*mapping(place, out="own")).code == 0
    file = next((place / "own/units").rglob("rollouts.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    done = personascope(*mapping(place, out="own"))
    refused(done, "rollouts.parquet", "->")


def test_no_map_there(place: Path) -> None:
    before = tree(place)
    refused(personascope("show", place / "corpus"), "corpus", "->")
    refused(personascope("report", place / "nowhere"), "nowhere", "->")
    assert tree(place) == before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('[{"role": "wizard", "content": "Hm."}]', "wizard"),
        ("[]", "no list"),
        ("Once upon a time", "begins with"),
        ("", "empty"),
        ('[{"role": "user"}]', "message 0"),
    ],
)
def test_a_transcript_that_is_none(place: Path, content: str, word: str) -> None:
    (place / "bad.json").write_text(content)
    refused(personascope("project", place / "run", place / "bad.json"), word, code=2)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--profile", "huge"], "huge"),
        (["--judge", "oracle"], "oracle"),
        (["--keep", "some"], "some"),
        (["--questions", "99"], "99"),
        (["--questions", "0"], "'--questions'"),
        (["--roles", "2"], "roles is 2"),
        (["--max-new-tokens", "0"], "'--max-new-tokens'"),
        (["--kinds", "riddles"], "'riddles'"),
        (["--vectors", "all"], "'all'"),
        (["--dtype", "float7"], "float7"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_usage(place: Path, more: list[str], word: str) -> None:
    before = tree(place)
    done = personascope(*mapping(place, out="new"), *more)
    assert done.code == 2, (done.out, done.err)
    assert word in done.err and "Traceback" not in done.err
    assert tree(place) == before


def test_a_layer_that_the_map_does_not_have(place: Path) -> None:
    refused(personascope("project", place / "run", place / "chat.json", "--layer", "40"), "40", "->", code=2)


def test_a_judge_must_be_named(place: Path) -> None:
    args = [arg for arg in mapping(place, out="new") if arg not in ("--judge", "none")]
    refused(personascope(*args), "judge", "--judge", code=2)
    assert not (place / "new").exists()
