"""A run of the planted model's roles, with a map and kept responses."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "mapping"))

import fakes

from personascope.mapping import collect_rollouts, open_run
from personascope.mapping._map import make_space
from personascope.mapping._publish import publish


def map_run(folder: Path) -> fakes.FakeEngine:
    """Map a model that is a hash, with the shape of the planted one."""
    from helpers.planted_traits import N_LAYERS, D

    engine = fakes.FakeEngine(N_LAYERS, D, model="lab/planted")
    design = fakes.design_for(engine)
    with open_run(engine, design, folder, None) as run:
        collect_rollouts(engine, design, run, None)
        space, vectors = make_space(run, design, engine.info, n_boot=5)
        publish(run, design, engine.info, space, vectors=vectors)
    return engine
