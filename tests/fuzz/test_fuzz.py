"""The short form of the fuzzers, in every run of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz.arguments import fuzz_arguments
from fuzz.harness import Found, attempt, fuzz_files
from fuzz.targets import Target, make_targets

CASES = int(os.environ.get("PERSONASCOPE_FUZZ", "700"))
"""Cases of files; a tenth as many of arguments."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Target]]:
    at = tmp_path_factory.mktemp("fuzz") / "files"
    at.mkdir()
    return at, make_targets(at)


def test_damaged_files(made: tuple[Path, list[Target]]) -> None:
    at, targets = made
    found = Found()
    fuzz_files(targets, at, CASES, 1, found)
    assert found.cases == CASES
    assert not found.wrong, "\n".join(found.wrong)
    # Cases that no reader refuses, or all of which one does, would show nothing.
    assert (
        min(found.outcomes["read"], found.outcomes["StoreError"], found.outcomes["InteropError"])
        > CASES // 100
    )


def test_arguments(made: tuple[Path, list[Target]]) -> None:
    at, _ = made
    found = Found()
    fuzz_arguments(at, CASES // 10, 1, found)
    assert not found.wrong, "\n".join(found.wrong)


def test_the_harness_sees_what_it_looks_for(tmp_path: Path) -> None:
    found = Found()
    attempt(lambda: [][1], "an index", found)
    kept: list[bytes] = []
    attempt(lambda: kept.append(bytes(bytearray(2**30))), "much", found)
    # Where memory is short, it is slow as well: two complaints of one case.
    assert list(dict.fromkeys(line.split(":")[0] for line in found.wrong)) == ["an index", "much"]
    found = Found()
    path = tmp_path / "x"
    path.write_bytes(b"whole")
    silent = Target("silent", path, path.read_bytes, sealed=True)
    fuzz_files([silent], tmp_path, 5, 0, found)
    assert len(found.wrong) == 5 and "to another result" in found.wrong[0]
