"""From a profile to a persona space in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from personascope.corpus import Corpus
from personascope.engines import Engine
from personascope.errors import SpaceError
from personascope.judge import Judge
from personascope.mapping._design import Profile
from personascope.mapping._plan import plan_run
from personascope.mapping._publish import publish
from personascope.mapping._run import Collected, Progress, collect, open_run
from personascope.mapping._sums import RunSums, response_norms
from personascope.space import Space, build_space


@dataclass(frozen=True, slots=True, eq=False)
class MapResult:
    """What a run led to.

    Attributes:
        space: The persona space; None if the run is partial and has too little for one.
        norms: Mean norm of the response activations at each layer; None likewise.
        collected: What is in the run folder, and whether it is partial.
    """

    space: Space | None
    norms: Float64[np.ndarray, "layers"] | None
    collected: Collected


def run_map(
    engine: Engine,
    corpus: Corpus,
    profile: Profile | str,
    *,
    out: Path,
    judge: Judge | None,
    seed: int = 0,
    keep: int | Literal["all"] | None = None,
    questions: int | None = None,
    default_samples: int | None = None,
    model_name: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    max_pending: int = 64,
    n_boot: int = 200,
    restart: bool = False,
    command: str = "",
) -> MapResult:
    """Generate and judge the rollouts of a design, and make the persona space of them (sections 2, 3).

    Runs on where an earlier call with the same arguments stopped: units that were committed are
    not generated again, rollouts without a score are judged again.

    Args:
        engine: Makes the rollouts.
        corpus: Roles, questions and the default's prompts.
        profile: A profile or the name of one.
        out: The run folder, new or of an earlier call.
        judge: Scores the roles' rollouts; None to count every one as fully in its role.
        seed: Of everything that is drawn.
        keep: Replaces the profile's.
        questions: Replaces the profile's.
        default_samples: Replaces the profile's.
        model_name: What the default's prompts call the model; by default the last part of its id.
        progress: Called after each completion.
        max_pending: Rollouts that are judged at the same time.
        n_boot: Bootstrap draws of the space's statistics.
        restart: Forget a run that is in the folder.
        command: Recorded in the manifest.

    Raises:
        UsageError: If the profile does not exist or does not fit the corpus.
        StoreError: If the folder holds another run or cannot be written.
        EngineError: If the engine fails, or returns something else than was asked for.
        SpaceError: If the run is complete and there is too little in it for a map.
    """
    design = plan_run(
        engine.info,
        corpus,
        profile,
        seed=seed,
        keep=keep,
        questions=questions,
        default_samples=default_samples,
        model_name=model_name,
    )
    with open_run(engine, design, out, judge, restart=restart, command=command) as folder:
        collected = collect(engine, design, folder, judge, progress=progress, max_pending=max_pending)
        if progress is not None:
            progress(Progress("build", collected.rollouts, collected.total, 0, collected.unscored, 0))
        sums = RunSums(folder, design, engine.info.n_layers, engine.info.d_model)
        try:
            space = build_space(
                sums,
                min_fully=design.profile.min_fully,
                min_somewhat=design.profile.min_somewhat,
                n_boot=n_boot,
                seed=design.seed,
            )
        except SpaceError as error:
            if not collected.partial:
                raise
            problem = f"{collected.problem}; there is no map yet: {error.message}"
            return MapResult(None, None, replace(collected, problem=problem))
        publish(folder, design, engine.info, space, command=command)
        return MapResult(space, response_norms(folder), collected)
