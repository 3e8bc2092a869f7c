"""These tests need Ray; `make test` runs them in the environment of the tests of vLLM."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "mapping"))

from tiny import save_tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    return str(save_tiny("mistral", tmp_path_factory.mktemp("models") / "mistral"))


@pytest.fixture(scope="session")
def local(model):
    from personascope.engines import load_engine

    return load_engine(model, dtype="float32", max_batch=8)


@pytest.fixture(scope="session")
def spread(model):
    from personascope.engines import load_engine

    engine = load_engine(model, dtype="float32", max_batch=8, workers=2)
    yield engine
    engine.close()
