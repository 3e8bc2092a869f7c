"""Tiny models on disk, opened as models of Inspect, for the tests of its tasks and of the provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from inspect_ai.model import Model, get_model

from personascope.evals.inspect._provider import PersonascopeAPI
from personascope.interventions import Cap, Plan, Steer
from tiny import save_tiny

WIDTH = 48


def push(strength: float = 8.0) -> Plan:
    return Plan((Steer(2, np.arange(WIDTH) - 20.0, strength),), name="push")


@pytest.fixture(name="folder", scope="module")
def models_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny instruct model with plans of it, and a tiny base model."""
    root = tmp_path_factory.mktemp("inspect")
    save_tiny("cohere", root / "model")
    save_tiny("gpt2", root / "base")
    push().save(root / "push")
    cap().save(root / "cap")
    return root


def cap() -> Plan:
    return Plan((Cap(1, np.ones(WIDTH), floor=0.5),), name="cap")


@pytest.fixture(name="opened")
def models_opened(folder: Path) -> Iterator[Callable[..., Model]]:
    models: list[Model] = []

    def make(name: str = "model", **args: Any) -> Model:
        model = get_model(f"personascope/{folder / name}", memoize=False, dtype="float32", **args)
        models.append(model)
        return model

    yield make
    for model in models:
        model.api.close()


def api(model: Model) -> PersonascopeAPI:
    assert isinstance(model.api, PersonascopeAPI)
    return model.api
