"""A tiny model and its map, made once for what a notebook types."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebook_case import map_tiny

import personascope as ps
from cli.cli_case import save_model, write_corpus
from personascope.api.notebook import Model


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a corpus."""
    folder = tmp_path_factory.mktemp("notebook")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="session")
def model(place: Path) -> Model:
    return ps.load(place / "model", dtype="float32", engine="transformers")


@pytest.fixture(scope="session")
def pmap(place: Path, model: Model) -> ps.PersonaMap:
    return map_tiny(place, model, str(place / "run"))
