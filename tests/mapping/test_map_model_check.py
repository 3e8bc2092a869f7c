"""The check of a model before it is mapped: made once a folder, and a map is not made where it fails."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from personascope.engines import OperationCheck, TransformersEngine
from personascope.errors import EngineError
from personascope.mapping import _model_check, run_map
from personascope.mapping._model_check import check_model, record_check
from personascope.store import read_json
from tiny import load_tiny


def test_a_check_is_recorded_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(load_tiny("llama"))
    record = check_model(engine, tmp_path, restart=False)
    assert record is not None
    assert set(record["checks"]) == {"run", "observe"}
    record_check(tmp_path, record)
    assert read_json(tmp_path / "model_check.json")["of"]["id"] == "tiny/llama"
    monkeypatch.setattr(_model_check, "verify_model", lambda *_, **__: pytest.fail("checked again"))
    assert check_model(engine, tmp_path, restart=False) is None
    monkeypatch.undo()
    # Another model, dtype or library, or a run that begins anew, is another check.
    assert check_model(TransformersEngine(load_tiny("qwen3")), tmp_path, restart=False) is not None
    assert check_model(engine, tmp_path, restart=True) is not None


def test_no_map_is_made_of_a_model_that_is_read_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [OperationCheck("run", "SILENTLY_WRONG", "pooled means differ by 0.3")]
    monkeypatch.setattr(_model_check, "verify_model", lambda *_, **__: wrong)
    engine = TransformersEngine(load_tiny("llama"))
    with pytest.raises(EngineError, match=r"run is SILENTLY_WRONG: pooled means differ by 0\.3") as caught:
        run_map(engine, fakes.corpus(), fakes.SMALL, out=tmp_path / "run", judge=None)
    assert "personascope doctor --model tiny/llama" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_other_engines_are_not_checked(tmp_path: Path) -> None:
    assert check_model(fakes.FakeEngine(), tmp_path, restart=False) is None
