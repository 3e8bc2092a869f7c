"""The wheel and the source archive: all that the package reads is in them, and nothing else."""

from __future__ import annotations

import configparser
import importlib
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from personascope import __version__

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "personascope"
LEFT_BEHIND = (".pyc", ".pyo")


def files_of(folder: Path) -> set[str]:
    """Return the paths of a folder's files, without what running leaves behind."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in LEFT_BEHIND
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    builders = pytest.importorskip(
        "hatchling.builders.wheel", reason="hatchling, the backend, is not installed"
    )
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = builders.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    assert Path(path).stat().st_size < 5_000_000
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel: zipfile.ZipFile) -> None:
    inside = {
        name.removeprefix("personascope/") for name in wheel.namelist() if name.startswith("personascope/")
    }
    assert inside == files_of(SOURCE)
    others = {name.partition("/")[0] for name in wheel.namelist()} - {"personascope"}
    assert others == {f"personascope-{__version__}.dist-info"}


def test_the_data_that_the_package_reads_are_there_unchanged(wheel: zipfile.ZipFile) -> None:
    suffixes = {Path(name).suffix for name in wheel.namelist()}
    # Corpus, chats and questions, weights of the offline judge, pages, types.
    assert {".yaml", ".jsonl", ".json", ".safetensors", ".html", ".css", ".js", ".pyi"} <= suffixes
    assert "personascope/py.typed" in wheel.namelist()
    for name in ("corpus/data/default.yaml", "report/assets/page.html", "live/assets/recordings/basil.json"):
        assert wheel.read(f"personascope/{name}") == (SOURCE / name).read_bytes()


def test_its_entry_points_are_there(wheel: zipfile.ZipFile) -> None:
    told = configparser.ConfigParser()
    told.read_string(wheel.read(f"personascope-{__version__}.dist-info/entry_points.txt").decode())
    assert told["console_scripts"]["personascope"] == "personascope.cli:main"
    for group in told.sections():
        for target in told[group].values():
            module, _, name = target.partition(":")
            path = SOURCE.parent.joinpath(*module.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), target
            if group == "console_scripts":
                assert callable(getattr(importlib.import_module(module), name))


def test_what_is_said_of_it_is_readme_and_licence(wheel: zipfile.ZipFile) -> None:
    about = f"personascope-{__version__}.dist-info"
    metadata = wheel.read(f"{about}/METADATA").decode()
    head, _, body = metadata.partition("\n\n")
    assert f"Version: {__version__}" in head and "License-Expression: Apache-2.0" in head
    assert "Requires-Python: >=3.11" in head and body.strip().startswith("# personascope")
    assert wheel.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_source_archive_builds_the_same_package(tmp_path: Path) -> None:
    builders = pytest.importorskip(
        "hatchling.builders.sdist", reason="hatchling, the backend, is not installed"
    )
    (path,) = builders.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = {
        name.removeprefix("src/personascope/") for name in names if name.startswith("src/personascope/")
    }
    assert files_of(SOURCE) <= package and {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not {name for name in names if name.startswith((".venv", "runs/", "build/", "dist/"))}
