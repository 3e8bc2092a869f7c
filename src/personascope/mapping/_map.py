"""From a profile to a persona space in one call."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Float64

from personascope.corpus import Corpus
from personascope.engines import Engine, EngineInfo
from personascope.errors import SpaceError
from personascope.judge import Judge
from personascope.mapping._adjust import LengthAdjusted
from personascope.mapping._design import Design
from personascope.mapping._length import find_length, probes, stored_length
from personascope.mapping._model_check import check_model, record_check
from personascope.mapping._plan import ProfileChanges, plan_run, resolve_profile
from personascope.mapping._profile import Profile
from personascope.mapping._publish import publish
from personascope.mapping._run import Collected, collect_rollouts, open_run
from personascope.mapping._sums import RunSums, Vectors, response_norms
from personascope.runs import Progress, ProgressCallback, dated, shown
from personascope.space import Space, build_space
from personascope.store import RunFolder

log = logging.getLogger(__name__)

PLAYED_ROLES = 0.25
"""Share of the roles that must have a vector of responses that played, for a space of those alone."""


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
    out: Path | str,
    judge: Judge | None,
    seed: int = 0,
    model_name: str | None = None,
    vectors: Vectors = "played",
    adjust_length: bool = False,
    progress: ProgressCallback | bool = True,
    max_pending: int = 64,
    n_boot: int = 200,
    restart: bool = False,
    command: str = "",
    **changes: Unpack[ProfileChanges],
) -> MapResult:
    """Generate and judge the rollouts of a design, and make the persona space of them (sections 2, 3).

    Runs on where an earlier call with the same arguments stopped: units that were committed are
    not generated again, rollouts without a score are judged again. ``vectors`` and ``adjust_length`` only
    say how the map is made of them, and may be changed afterwards.

    Args:
        engine: Makes the rollouts.
        corpus: Roles, questions and the default's prompts.
        profile: A profile or the name of one.
        out: The run folder, new or of an earlier call.
        judge: Scores the roles' rollouts; None to count every one as fully in its role.
        seed: Random seed of all that is drawn.
        model_name: What the default's prompts call the model; by default the last part of its id.
        vectors: Make role vectors of the responses that played ("played"), or by the letter of the paper's
            rubric of all with the score 3 ("rubric").
        adjust_length: Regress the length of responses out, within questions.
        progress: Whether to show a bar, or what to call after each completion instead.
        max_pending: Rollouts that are judged at the same time.
        n_boot: Bootstrap draws of the space's statistics.
        restart: Forget a run that is in the folder.
        command: Recorded in the manifest.
        changes: What replaces the profile's values.

    Raises:
        UsageError: If the profile does not exist or does not fit the corpus.
        StoreError: If the folder holds another run or cannot be written.
        EngineError: If the engine fails, or returns something else than was asked for, or reads this model in
            another way than the model's own library (docs/models.md).
        SpaceError: If the run is complete and there is too little in it for a map.
    """
    out = Path(out)
    profile = resolve_profile(profile, **changes)
    engine = dated(engine, out, restart=restart)
    with shown(progress) as tell:
        if tell is not None:
            tell(Progress("check the model"))
        checked = check_model(engine, out, restart=restart)
        length = None if restart else stored_length(out, profile)
        if length is not None:
            profile = replace(profile, max_new_tokens=length)
        elif tell is not None and probes(profile):
            tell(Progress("find the length of responses"))
        design = design_run(engine, corpus, profile, seed=seed, model_name=model_name, probe=length is None)
        with open_run(engine, design, out, judge, restart=restart, command=command) as folder:
            record_check(folder.path, checked)
            collected = collect_rollouts(
                engine, design, folder, judge, progress=tell, max_pending=max_pending
            )
            if tell is not None:
                tell(
                    Progress(
                        "build the map", collected.rollouts, collected.total, unscored=collected.unscored
                    )
                )
            try:
                space, made_of = make_space(
                    folder, design, engine.info, vectors=vectors, adjust_length=adjust_length, n_boot=n_boot
                )
            except SpaceError as error:
                if not collected.partial:
                    raise
                problem = f"{collected.problem}; there is no map yet: {error.message}"
                return MapResult(None, None, replace(collected, problem=problem))
            publish(
                folder,
                design,
                engine.info,
                space,
                vectors=made_of,
                adjusted=adjust_length,
                command=command,
            )
            return MapResult(space, response_norms(folder), collected)


def design_run(
    engine: Engine,
    corpus: Corpus,
    profile: Profile,
    *,
    seed: int = 0,
    model_name: str | None = None,
    probe: bool = True,
) -> Design:
    """Make the design of a run, with the length of responses found by a probe where the profile asks for one.

    Args:
        engine: Generates the probe.
        corpus: Roles, questions and the default's prompts.
        profile: How much to ask.
        seed: Random seed of all that is drawn.
        model_name: What the default's prompts call the model; by default the last part of its id.
        probe: False where the length is known already.

    Raises:
        UsageError: If the profile does not fit the corpus.
        EngineError: If the engine fails on the probe.
    """
    design = plan_run(engine.info, corpus, profile, seed=seed, model_name=model_name)
    if not probe or not probes(profile) or profile.longest is None:
        return design
    found = find_length(engine, design, profile.longest)
    profile = replace(profile, max_new_tokens=found.max_new_tokens)
    return plan_run(engine.info, corpus, profile, seed=seed, model_name=model_name)


def make_space(
    folder: RunFolder,
    design: Design,
    info: EngineInfo,
    *,
    vectors: Vectors = "played",
    adjust_length: bool = False,
    n_boot: int = 200,
) -> tuple[Space, Vectors]:
    """Make the persona space of what is in a run folder.

    Where too few roles were played for a space of those that were, the space is made of all responses
    with the score 3: its figures say what the model did instead, and its verdict that roles were not played.

    Args:
        folder: The run folder.
        design: The run's.
        info: The engine's: layers and width.
        vectors: Which responses role vectors are made of.
        adjust_length: Regress the length of responses out, within questions.
        n_boot: Bootstrap draws.

    Returns:
        The space, and which responses its vectors are made of.

    Raises:
        SpaceError: If there is too little for a space.
    """

    def build(chosen: Vectors) -> Space:
        sums = RunSums(folder, design, info.n_layers, info.d_model, vectors=chosen)
        with_vector = int((sums.counts("fully").sum(axis=1) >= design.profile.min_fully).sum())
        if chosen == "played" and with_vector < PLAYED_ROLES * len(sums.roles):
            raise SpaceError(f"{with_vector} of {len(sums.roles)} roles were played")
        return build_space(
            LengthAdjusted(sums, folder, chosen) if adjust_length else sums,
            min_fully=design.profile.min_fully,
            min_somewhat=design.profile.min_somewhat,
            n_boot=n_boot,
            seed=design.seed,
        )

    if vectors == "played":
        try:
            return build("played"), "played"
        except SpaceError as error:
            # What is wrong with the run itself shows again below.
            log.warning("no space of the responses that played (%s): all are taken", error.message)
    return build("rubric"), "rubric"
