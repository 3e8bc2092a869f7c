"""Run a profile and build its persona space, in one call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Float64

from personascope.corpus import Corpus
from personascope.engines import Engine, EngineInfo
from personascope.errors import SpaceError
from personascope.judge import Judge
from personascope.mapping._adaptive import MAXIMUM
from personascope.mapping._adjust import LengthAdjusted
from personascope.mapping._design import Design
from personascope.mapping._length import find_length, probes, stored_length
from personascope.mapping._model_check import check_model, record_check
from personascope.mapping._plan import ProfileChanges, plan_run, resolve_profile
from personascope.mapping._profile import Profile
from personascope.mapping._publish import publish
from personascope.mapping._run import Collected, collect_rollouts, open_run
from personascope.mapping._sums import RunSums, Vectors, response_norms
from personascope.mapping._until import Until, check_until, read_until
from personascope.runs import Progress, ProgressCallback, dated, shown
from personascope.space import Space, SpaceStats, build_space
from personascope.store import RunFolder

log = logging.getLogger(__name__)

PLAYED_ROLES = 0.25
"""Minimum share of roles with a vector of played responses, for a space built from played responses alone."""


@dataclass(frozen=True, slots=True, eq=False)
class MapResult:
    """Result of a mapping run.

    Attributes:
        space: Persona space; None if the run is partial and too small for one.
        norms: Mean norm of the response activations at each layer; None if there is no space.
        collected: Summary of the run folder, and whether it is partial.
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
    until: Until | Mapping[str, float] | Sequence[str] | str | None = None,
    **changes: Unpack[ProfileChanges],
) -> MapResult:
    """Generate and judge the rollouts of a design, and build and publish the persona map (sections 2, 3).

    A call with the same arguments resumes an interrupted run: committed units are not generated again, and
    rollouts without a score are judged again. ``vectors`` and ``adjust_length`` only affect how the map is
    built, and may change between calls.

    Args:
        engine: Engine that generates the rollouts.
        corpus: Roles, questions and the default's prompts.
        profile: Profile, or its name.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        judge: Judge that scores the roles' rollouts; None counts every one as fully in its role.
        seed: Random seed.
        model_name: Name of the model in the default's prompts; by default the last part of its id.
        vectors: Responses in role vectors: those with score 3 that played their role ("played"), or all with
            score 3 as in the paper's rubric ("rubric").
        adjust_length: Whether to regress out response length, within questions.
        progress: Whether to show a progress bar, or a callback to call after each completion instead.
        max_pending: Maximum number of rollouts judged concurrently.
        n_boot: Number of bootstrap draws for the space's statistics.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.
        until: What to stop at, such as "axis=0.95" or ["roles=0.3", "tokens=2e6"] (`Until`): the design is
            then asked in rounds, and the first that is met ends the run. None asks the whole design. The
            vectors are then those of every look, and cannot change between calls.
        changes: Values that override the profile's.

    Raises:
        UsageError: If the profile does not exist or does not fit the corpus, or ``until`` is no criterion.
        StoreError: If the folder holds another run or cannot be written.
        EngineError: If the engine fails, its results do not match the requests, or its activations of this
            model differ from those of the model's own library (docs/models.md).
        SpaceError: If the run is complete, or stopped by a budget, but too small for a map.
    """
    out = Path(out)
    profile = resolve_profile(profile, **changes)
    goal = read_until(until)
    check_until(goal, judge)
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
        design = design_run(
            engine,
            corpus,
            profile,
            seed=seed,
            model_name=model_name,
            probe=length is None,
            until=goal,
            vectors=vectors,
        )
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
            # First, so that the two spaces are never in memory together.
            other = other_space(
                folder, design, engine.info, vectors, adjust_length=adjust_length, n_boot=n_boot
            )
            try:
                space, made_of = make_space(
                    folder, design, engine.info, vectors=vectors, adjust_length=adjust_length, n_boot=n_boot
                )
            except SpaceError as error:
                if not collected.partial:
                    raise too_small(error, collected) from error
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
                curve=collected.curve,
                other=other if made_of == vectors else None,
            )
            return MapResult(space, response_norms(folder), collected)


def too_small(error: SpaceError, collected: Collected) -> SpaceError:
    """Return the error of a complete run without a map; an adaptive one names the budget that stopped it."""
    curve = collected.curve
    if curve is None or curve.stop == MAXIMUM:
        return error
    rounds = len(curve.points)
    return SpaceError(
        f"{curve.stop} stopped the run after {rounds} round{'s' * (rounds > 1)}, too early for a map: "
        f"{error.message}",
        hint="give a larger budget: the same folder goes on from there",
    )


def design_run(
    engine: Engine,
    corpus: Corpus,
    profile: Profile,
    *,
    seed: int = 0,
    model_name: str | None = None,
    probe: bool = True,
    until: Until | None = None,
    vectors: Vectors = "played",
) -> Design:
    """Create the design of a run, with the response length found by a probe if the profile asks for one.

    Args:
        engine: Engine that generates the probe.
        corpus: Roles, questions and the default's prompts.
        profile: Profile: sizes and sampling options.
        seed: Random seed.
        model_name: Name of the model in the default's prompts; by default the last part of its id.
        probe: Whether to probe; False if the length is already known.
        until: What an adaptive run stops at; None for a fixed design.
        vectors: Responses in the role vectors of an adaptive run's looks.

    Raises:
        UsageError: If the profile does not fit the corpus.
        EngineError: If the engine fails on the probe.
    """

    def plan(profile: Profile) -> Design:
        return plan_run(
            engine.info, corpus, profile, seed=seed, model_name=model_name, until=until, vectors=vectors
        )

    design = plan(profile)
    if not probe or not probes(profile) or profile.longest is None:
        return design
    found = find_length(engine, design, profile.longest)
    return plan(replace(profile, max_new_tokens=found.max_new_tokens))


def make_space(
    folder: RunFolder,
    design: Design,
    info: EngineInfo,
    *,
    vectors: Vectors = "played",
    adjust_length: bool = False,
    n_boot: int = 200,
) -> tuple[Space, Vectors]:
    """Build the persona space of a run folder.

    If too few roles were played, the space is built from all responses with score 3 instead. Its statistics
    then describe what the model did, and its verdict says that roles were not played.

    Args:
        folder: Run folder.
        design: Design of the run.
        info: Engine information: layers and width.
        vectors: Responses in role vectors, as in `run_map`.
        adjust_length: Whether to regress out response length, within questions.
        n_boot: Number of bootstrap draws.

    Returns:
        The space, and the kind of responses in its vectors.

    Raises:
        SpaceError: If the run is too small for a space.
    """
    if vectors == "played":
        try:
            return _build(
                "played", folder, design, info, adjust_length=adjust_length, n_boot=n_boot
            ), "played"
        except SpaceError as error:
            # If the cause is the run itself, the second build raises the same error.
            log.warning("no space of the responses that played (%s): all are taken", error.message)
    return _build("rubric", folder, design, info, adjust_length=adjust_length, n_boot=n_boot), "rubric"


def other_space(
    folder: RunFolder,
    design: Design,
    info: EngineInfo,
    made_of: Vectors,
    *,
    adjust_length: bool = False,
    n_boot: int = 200,
) -> tuple[SpaceStats, Vectors, int] | None:
    """Return statistics, kind and middle layer of the space of the other kind of vectors.

    Keeping only what played leaves out the roles that are most like the default. So a verdict may rest on
    this choice, and both are made (docs/design.md). None if role information was not measured, or if too few
    roles were played.

    Args:
        folder: Run folder.
        design: Design of the run.
        info: Engine information: layers and width.
        made_of: Kind of responses in the vectors of the map that is asked for.
        adjust_length: Whether to regress out response length, within questions.
        n_boot: Number of bootstrap draws.
    """
    if not design.profile.role_information:
        return None
    kind: Vectors = "rubric" if made_of == "played" else "played"
    try:
        space = _build(kind, folder, design, info, adjust_length=adjust_length, n_boot=n_boot)
    except SpaceError as error:
        log.info("no space of the other vectors (%s): %s", kind, error.message)
        return None
    return space.stats, kind, space.middle_layer


def _build(
    vectors: Vectors,
    folder: RunFolder,
    design: Design,
    info: EngineInfo,
    *,
    adjust_length: bool,
    n_boot: int,
) -> Space:
    sums = RunSums(folder, design, info.n_layers, info.d_model, vectors=vectors)
    with_vector = int((sums.counts("fully").sum(axis=1) >= design.profile.min_fully).sum())
    if vectors == "played" and with_vector < PLAYED_ROLES * len(sums.roles):
        raise SpaceError(f"{with_vector} of {len(sums.roles)} roles were played")
    return build_space(
        LengthAdjusted(sums, folder, vectors) if adjust_length else sums,
        min_fully=design.profile.min_fully,
        min_somewhat=design.profile.min_somewhat,
        n_boot=n_boot,
        seed=design.seed,
    )
