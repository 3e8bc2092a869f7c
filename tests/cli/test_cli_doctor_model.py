"""``doctor --model``: every operation of a model on its own, and an exit code that tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import personascope
from personascope.engines import OperationCheck
from personascope.engines._transformers._verify import OPERATIONS
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model") / "llama")


def test_a_model_that_runs_as_it_should(model: Path) -> None:
    ran = personascope("doctor", "--model", model, "--dtype", "float32", "--device", "cpu")
    assert ran.code == 0, ran.err
    for operation in ("run", "observe", "score", "follow", "steered", "cap"):
        assert any(operation in line and "SUPPORTED" in line for line in ran.out.splitlines()), ran.out


def test_a_model_that_does_not_is_told_by_the_exit_code(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [OperationCheck("run", "SILENTLY_WRONG", "pooled means differ")]
    monkeypatch.setattr("personascope.api._installation.verify_model", lambda _engine: wrong)
    ran = personascope("doctor", "--model", model, "--dtype", "float32", "--device", "cpu")
    assert ran.code == 1
    assert "SILENTLY_WRONG" in ran.out
    assert OPERATIONS[0] == "run"


def test_a_model_that_is_not_there_is_named() -> None:
    ran = personascope("doctor", "--model", "no/such-model")
    assert ran.code == 1
    assert "no/such-model" in ran.err
