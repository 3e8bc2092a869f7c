"""A model of Transformers is known by what it was loaded from, as the package's own loading knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from personascope.errors import ModelError
from personascope.models import load, model_identity
from personascope.models._convert import MANIFEST
from tiny import save_tiny


def test_a_folder_has_the_revision_that_load_gives_it(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    mine = load(str(tmp_path))
    assert mine.revision
    assert model_identity(model).revision == mine.revision


def test_another_folder_has_another_revision(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, family in zip(folders, ("llama", "gpt2"), strict=True):
        save_tiny(family, folder)
    first, second = (model_identity(AutoModelForCausalLM.from_pretrained(folder)) for folder in folders)
    assert first.differences(second)


def test_a_converted_file_is_known_by_its_sha256(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"source_sha256": "ab" * 32}), encoding="utf-8")
    assert model_identity(AutoModelForCausalLM.from_pretrained(tmp_path)).revision == "ab" * 32
    (tmp_path / MANIFEST).write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        model_identity(AutoModelForCausalLM.from_pretrained(tmp_path))


def test_one_made_from_a_configuration_is_known_by_its_class(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    made = type(model)(model.config.__class__(**{**model.config.to_dict(), "_name_or_path": ""}))
    assert (model_identity(made).id, model_identity(made).revision) == (type(model).__name__, "")
