"""Run a set of traits on a mapped model, and publish them in its map, in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from personascope.corpus import Question, TraitSet
from personascope.engines import Engine
from personascope.errors import SpaceError
from personascope.judge import Judge
from personascope.mapping import DEFAULT
from personascope.runs import Progress, ProgressCallback, dated, shown
from personascope.space import (
    PERCENTILES,
    MapTraits,
    PersonaMap,
    Population,
    TraitMeta,
    build_trait_space,
    save_traits,
)
from personascope.stats import weighted_percentiles
from personascope.store import RunFolder
from personascope.trait_vectors._design import TraitDesign, build_trait_design
from personascope.trait_vectors._profile import TraitProfile
from personascope.trait_vectors._run import TraitsCollected, collect_traits, open_trait_run, totals
from personascope.trait_vectors._sums import TraitSums
from personascope.trait_vectors._unit import LEFT_OUT

RESPONSE_TOKENS = 64
"""Maximum length of a response if neither the profile nor the map says one."""


@dataclass(frozen=True, slots=True, eq=False)
class TraitsResult:
    """Result of a trait run.

    Attributes:
        traits: Set of traits in the map; None if the run is partial and has no trait with enough pairs yet.
        collected: Summary of the run folder, and whether it is partial.
    """

    traits: MapTraits | None
    collected: TraitsCollected


def design_traits(
    persona_map: PersonaMap,
    traits: TraitSet,
    bank: Sequence[Question],
    profile: TraitProfile,
    *,
    seed: int = 0,
    engine: Engine | None = None,
) -> TraitDesign:
    """Create the design of a trait run, with the length and the pooled tokens of the map's responses.

    Args:
        persona_map: Map of the model.
        traits: Traits to sample from.
        bank: Bank of questions.
        profile: Profile; its length is the map's where it has none, its tokens are always the map's.
        seed: Random seed.
        engine: Engine of the model, by whose shape units are bounded.

    Raises:
        UsageError: If the bank has too few questions, or a trait has none of its own where these are asked.
        CorpusError: If there are no traits, or a trait's name is no valid file name.
    """
    checks = persona_map.checks
    length = profile.max_new_tokens
    if length is None:
        length = RESPONSE_TOKENS if checks is None else int(checks.profile["max_new_tokens"])
    profile = replace(profile, max_new_tokens=length, tokens=persona_map.model.tokens)
    info = None if engine is None else engine.info
    return build_trait_design(traits, bank, profile, seed, info=info)


def run_traits(
    engine: Engine,
    persona_map: PersonaMap,
    traits: TraitSet,
    bank: Sequence[Question],
    profile: TraitProfile,
    *,
    out: Path,
    name: str,
    judge: Judge | None,
    seed: int = 0,
    run: Path | None = None,
    progress: ProgressCallback | bool = True,
    max_pending: int = 64,
    n_draws: int = 500,
    restart: bool = False,
    command: str = "",
) -> TraitsResult:
    """Generate and judge both poles of a set of traits, and publish their vectors in the map (section 2).

    A call with the same arguments resumes an interrupted run: committed units are not generated again, and
    rollouts without a score are judged again. After the map was made anew, the same call only measures the
    traits along its new axis.

    Args:
        engine: Engine of the map's model.
        persona_map: Map of the model.
        traits: Traits to sample from.
        bank: Bank of questions; the set's own questions take its place if it has any.
        profile: Profile, as `design_traits` takes it.
        out: Folder of the trait run.
        name: Name of the set in the map.
        judge: Judge that scores each response from 0 to 100; None keeps every pair, so that the vectors are
            differences without a score.
        seed: Random seed.
        run: Run folder of the map, whose kept responses of roles enter the calibration quantiles; None for
            quantiles of the traits' responses alone.
        progress: Whether to show a progress bar, or a callback to call after each completion instead.
        max_pending: Maximum number of rollouts judged concurrently.
        n_draws: Number of draws of either null.
        restart: Discard a run that is already in the folder.
        command: Command line to record.

    Raises:
        UsageError: If the traits do not fit the profile.
        StoreError: If the folder holds another run or cannot be written.
        EngineError: If the engine fails, or its results do not match the requests.
        SpaceError: If the run is complete and no trait has enough kept pairs.
    """
    engine = dated(engine, out, restart=restart)
    design = design_traits(persona_map, traits, bank, profile, seed=seed, engine=engine)
    with (
        shown(progress) as tell,
        open_trait_run(engine, design, out, judge, restart=restart, command=command) as folder,
    ):
        collected = collect_traits(engine, design, folder, judge, progress=tell, max_pending=max_pending)
        if tell is not None:
            tell(Progress("measure the traits", collected.rollouts, collected.total))
        try:
            publish_traits(
                folder,
                design,
                persona_map,
                name=name,
                judged=judge is not None,
                run=run,
                versions=engine.info.versions,
                n_draws=n_draws,
                command=command,
            )
        except SpaceError as error:
            if not collected.partial:
                raise
            problem = f"{collected.problem}; there are no traits in the map yet: {error.message}"
            return TraitsResult(None, replace(collected, problem=problem))
    found = next(one for one in persona_map.traits if one.name == name)
    return TraitsResult(found, collected)


def publish_traits(
    folder: RunFolder,
    design: TraitDesign,
    persona_map: PersonaMap,
    *,
    name: str,
    judged: bool,
    run: Path | None = None,
    versions: Mapping[str, str] | None = None,
    n_draws: int = 500,
    command: str = "",
) -> Path:
    """Measure a trait run along the map's axis, and write the set into the map's folder; return its path.

    Args:
        folder: Folder of the trait run.
        design: Design of the run.
        persona_map: Map of the model.
        name: Name of the set in the map.
        judged: Whether a judge scored the responses.
        run: Run folder of the map, or None.
        versions: Versions of the software to record.
        n_draws: Number of draws of either null.
        command: Command line to record.

    Raises:
        SpaceError: If no trait has enough kept pairs.
        StoreError: If the set cannot be written.
    """
    shape = (persona_map.n_layers, persona_map.d_model)
    space = build_trait_space(
        TraitSums(folder, design, shape),
        persona_map.axis,
        min_pairs=design.profile.min_pairs,
        n_draws=n_draws,
        seed=design.seed,
    )
    pairs: dict[str, Counter[str]] = {}
    scored: dict[str, np.ndarray] = {}
    for unit in folder.units.values():
        trait = unit.meta["trait"]
        pairs.setdefault(trait, Counter()).update(unit.meta["pairs"])
        row = np.array([unit.meta["points"][pole] for pole in ("+", "-")])
        scored[trait] = scored.get(trait, np.zeros((2, 2), np.int64)) + row
    statuses = totals(folder, "statuses")
    quantiles, population = _quantiles(folder, persona_map, run)
    profile = design.profile
    meta = TraitMeta(
        map_digest=persona_map.digest,
        groups={trait.name: trait.group for trait in design.traits},
        pairs={trait: dict(sorted(row.items())) for trait, row in sorted(pairs.items())},
        points={trait: _mean_points(row) for trait, row in sorted(scored.items())},
        min_difference=profile.min_difference if judged else None,
        judges=totals(folder, "judges"),
        refused=statuses.get("refused", 0),
        unscored=statuses.get("unscored", 0),
        profile={
            "name": profile.name,
            "seed": design.seed,
            "prompts": profile.prompts,
            "questions": design.n_questions,
            "max_new_tokens": profile.max_new_tokens,
            "own_questions": profile.own_questions,
        },
        digest=design.digest,
        quantiles=quantiles,
        percentiles=PERCENTILES,
        population=population,
        versions=dict(versions or {}),
        command=command,
    )
    return save_traits(persona_map.folder, name, space, meta)


def _mean_points(row: np.ndarray) -> tuple[float, float] | None:
    """Return the mean scores of both poles from sums and counts [2, 2]; None if a pole has none."""
    if not row[:, 1].all():
        return None
    return float(row[0, 0] / row[0, 1]), float(row[1, 0] / row[1, 1])


def kept_responses(folder: RunFolder) -> Iterator[tuple[str, Float32[np.ndarray, "L d"]]]:
    """Yield the id and the pooled activations of every response that a run kept on disk."""
    for index in sorted(folder.units):
        part = folder.part(index, "kept")
        for name in () if part is None else part.specs:
            yield name, part.read(name)  # pyright: ignore[reportOptionalMemberAccess]


def pooled_responses(folder: RunFolder) -> int:
    """Return the number of responses of a trait run that have activations."""
    of_traits = totals(folder, "statuses")
    return sum(count for status, count in of_traits.items() if status not in LEFT_OUT)


def _quantiles(
    folder: RunFolder, persona_map: PersonaMap, run: Path | None
) -> tuple[Float[np.ndarray, "L Q"], Population]:
    """Return percentiles of the projections of role and trait responses, as if all had been kept.

    A kept response stands for as many responses as its kind has for one that was kept.
    """
    unit = persona_map.axis.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    found: dict[Literal["role", "trait"], list[np.ndarray]] = {"role": [], "trait": []}
    for _, pooled in kept_responses(folder):
        found["trait"].append(np.einsum("ld,ld->l", pooled.astype(np.float64), unit))
    if run is not None:
        for name, pooled in kept_responses(RunFolder.read(run)):
            if name.split("/", 1)[0] != DEFAULT:
                found["role"].append(np.einsum("ld,ld->l", pooled.astype(np.float64), unit))
    responses = {
        "role": sum(
            sum(row.values()) - row.get("empty", 0)
            for name, row in persona_map.counts.items()
            if name != DEFAULT
        ),
        "trait": pooled_responses(folder),
    }
    sample = {kind: len(rows) for kind, rows in found.items() if rows}
    rows = [row for kind in sample for row in found[kind]]  # pyright: ignore[reportArgumentType]
    if not rows:
        raise SpaceError("no response of a trait was kept", hint="run the traits with --keep 512 or more")
    weights = [np.full(count, responses[kind] / count) for kind, count in sample.items()]
    values = weighted_percentiles(np.stack(rows), np.concatenate(weights), PERCENTILES)
    population = Population(
        "roles and traits" if "role" in sample else "traits",
        {kind: responses[kind] for kind in sample},
        sample,
    )
    return values, population
