"""A stand-in of the hub that huggingface_hub is pointed to, and small things to share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))
from map_case import N_LAYERS, D, save_map

from helpers.hub import TOKEN, Hub, hub
from personascope.dynamics.monitor import Monitor, Threshold
from personascope.interventions import Cap, Plan, PlanModel


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Point huggingface_hub, which has read its environment, to a stand-in; keep the cache in the test."""
    with hub() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hf"),
            "HF_TOKEN_PATH": str(tmp_path / "no token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        url = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("PERSONASCOPE_CACHE", str(tmp_path / "cache"))
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a map in it."""
    save_map(tmp_path / "run" / "map")
    return tmp_path / "run"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan folder with two floors."""
    axis = np.random.default_rng(0).normal(size=(N_LAYERS, D))
    model = PlanModel("some/model", "abc", N_LAYERS, D)
    Plan((Cap(1, axis[1], floor=-1.5), Cap(2, axis[2], floor=0.5)), model, "floors").save(tmp_path / "floors")
    return tmp_path / "floors"


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    """A monitor's file."""
    Monitor(Threshold("turn", -0.5, 1), layer=2).save(tmp_path / "watch.json")
    return tmp_path / "watch.json"
