"""Estimate of a sweep: its four evaluations, each from a probe; nothing is written."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from personascope.calibration._responses import Sample
from personascope.calibration._sweep import SweepSettings, sweep_conditions, sweep_trials
from personascope.corpus import Corpus
from personascope.corpus.datasets import JailbreakSet, load_basics, load_chats
from personascope.engines import Engine
from personascope.evals import Condition, estimate_basics, estimate_divergence, estimate_evaluation
from personascope.judge import Judge
from personascope.runs import WorkStep


def estimate_calibration(
    engine: Engine,
    sample: Sample,
    corpus: Corpus,
    *,
    judge: Judge | None,
    settings: SweepSettings,
    norms: Float[np.ndarray, "L"] | None = None,
    jailbreaks: JailbreakSet | None = None,
    seed: int = 0,
) -> tuple[tuple[Condition, ...], tuple[WorkStep, ...]]:
    """Estimate `calibrate`; return its conditions and a part of the work for each evaluation.

    Args:
        engine: Engine of the map's model.
        sample: Kept responses of the map.
        corpus: Corpus with the map's roles.
        judge: Judge of the responses, or None.
        settings: Size and limits of the sweep.
        norms: Mean norm at each layer, the unit of strengths; needed if there are strengths.
        jailbreaks: Jailbreak set; the built-in mild one by default.
        seed: Random seed.

    Raises:
        EngineError: If the engine fails on a probe.
    """
    conditions = sweep_conditions(sample, settings, norms, seed=seed)
    asked = sweep_trials(sample, corpus, settings, jailbreaks)
    return conditions, (
        *(estimate_evaluation(engine, one, conditions, judge=judge, seed=seed) for one in asked),
        estimate_basics(engine, conditions, load_basics()[: settings.questions]),
        estimate_divergence(engine, conditions, load_chats().chats[: settings.chats], seed=seed),
    )
