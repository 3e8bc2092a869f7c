"""A small map of SmolLM2 itself: the axis points to the Assistant, and the ends are where they belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from personascope.corpus import load_corpus
from personascope.engines import load_engine
from personascope.errors import ModelError
from personascope.judge import RulesJudge
from personascope.mapping import MAP, PROFILES, run_map
from personascope.models import resolve
from personascope.space import PersonaMap

WORK = ("programmer", "moderator", "validator", "theorist", "summarizer", "grader", "economist", "supervisor")
STAGE = ("vampire", "smuggler", "tree", "wraith", "bard", "witch", "jester", "rogue")


@pytest.mark.real
def test_the_axis_of_smollm2(tmp_path: Path) -> None:
    try:
        resolve("smollm2-135m")
    except ModelError as error:
        pytest.skip(f"the embedded model is not installed: {error.hint}")
    corpus = load_corpus()
    corpus = replace(corpus, roles=tuple(role for role in corpus.roles if role.name in (*WORK, *STAGE)))
    profile = replace(PROFILES["quick"], default_samples=1, max_new_tokens=32)
    # In bfloat16 other answers are drawn, on the processors that compute in it.
    engine = load_engine("smollm2-135m", dtype="float32")
    result = run_map(engine, corpus, profile, out=tmp_path, judge=RulesJudge(), n_boot=50)
    assert not result.collected.partial
    found = PersonaMap.open(tmp_path / MAP)
    layer = found.middle_layer
    assert layer == 15 and found.axis.shape == (30, 576)
    where = dict(zip(found.roles, found.stats.projections[layer], strict=True))
    work, stage = (np.mean([where[name] for name in names if name in where]) for names in (WORK, STAGE))
    default = found.stats.default_projection[layer]
    assert stage < work, where
    assert stage < found.stats.mean_projection[layer] < default
    assert found.stats.split_half[layer] > 0.6
