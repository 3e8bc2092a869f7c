"""Publication of a persona space as a `PersonaMap` on disk, with metadata from the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from personascope.engines import EngineInfo
from personascope.mapping._curve import fixed_curve
from personascope.mapping._design import DEFAULT, DESIGN, Design
from personascope.mapping._nuisances import nuisance_means
from personascope.mapping._role_information import baseline
from personascope.mapping._sums import Vectors, response_norms
from personascope.mapping._unit import LEFT_OUT, totals
from personascope.space import (
    MAP,
    LearningCurve,
    MapChecks,
    MapMeta,
    MapModel,
    PersonaMap,
    Quantiles,
    RolePlay,
    Space,
    SpaceStats,
    correlate,
    other_vectors,
    projection_quantiles,
)
from personascope.store import RunFolder


def publish(
    folder: RunFolder,
    design: Design,
    info: EngineInfo,
    space: Space,
    *,
    vectors: Vectors = "played",
    adjusted: bool = False,
    command: str = "",
    curve: LearningCurve | None = None,
    other: tuple[SpaceStats, Vectors, int] | None = None,
) -> Path:
    """Write the map to ``<run>/map`` and return its path.

    Args:
        folder: Run folder.
        design: Design of the run.
        info: Engine information.
        space: Persona space of the run.
        vectors: Kind of responses in its role vectors, as in `run_map`.
        adjusted: Whether response length was regressed out.
        command: Command line to record in the map.
        curve: Learning curve of an adaptive run; that of a fixed design is made here.
        other: Statistics, kind and middle layer of the space of the other kind of vectors.

    Raises:
        SpaceError: If the kept sample holds no response of the default, or none of a role.
        StoreError: If the folder cannot be written.
    """
    target = folder.path / MAP
    found = nuisance_means(folder, design, vectors)
    checks = MapChecks(
        design=DESIGN,
        profile={
            "name": design.profile.name,
            "seed": design.seed,
            "roles": len(design.roles),
            "prompts": design.profile.prompts,
            "questions": len(design.questions),
            "kinds": sorted({design.corpus.questions[index].kind for index in design.questions}),
            "max_new_tokens": design.profile.max_new_tokens,
        },
        vectors=vectors,
        threshold=baseline(folder, design) if design.profile.role_information else None,
        roles={
            role: RolePlay(len(values), found.played[role], sum(values) / len(values))
            for role, values in sorted(found.information.items())
            if role != DEFAULT
        },
        cut=found.cut / max(found.responses, 1),
        perplexity=float(np.exp(-np.mean(found.log_probabilities))) if found.log_probabilities else None,
        garbled=found.garbled / max(found.responses, 1),
        correlations=correlate(
            found.means(space.roles),
            space.stats.projections,
            space.role_vectors,
            space.mean,
            space.components,
        ),
        n_roles=len(space.roles),
        length_adjusted=adjusted,
        judges=dict(sorted(totals(folder, "judges").items())),
        cosines=_cosines(space),
    )
    if other is not None:
        stats, kind, layer = other
        checks = replace(checks, other=other_vectors(stats, checks, kind, layer))
    meta = MapMeta(
        model=MapModel(
            info.model_id,
            info.model_revision,
            info.dtype,
            info.n_layers,
            info.d_model,
            info.chat_digest,
            chat_options=dict(info.chat_options),
            chat_date=info.chat_date,
            tokens=design.profile.tokens,
        ),
        corpus_digest=design.corpus.digest,
        versions=dict(info.versions),
        command=command,
        response_norms=response_norms(folder),
        quantiles=Quantiles(
            role=projection_quantiles(space.axis, _kept(folder, default=False)),
            default=projection_quantiles(space.axis, _kept(folder, default=True)),
        ),
        unscored=_by_role(folder, "unscored"),
        empty=_by_role(folder, *LEFT_OUT),
        curve=curve or fixed_curve(folder, design, info, vectors),
        checks=checks,
    )
    PersonaMap.save(target, space, meta)
    return target


def _cosines(space: Space) -> list[list[float]]:
    """Return the cosines of the axis with the first five components of each layer."""
    axis = space.axis.astype(np.float64)
    first = space.components[:, :5].astype(np.float64)
    found = np.einsum("ld,lkd->lk", axis, first) / np.linalg.norm(axis, axis=1)[:, None]
    return found.round(4).tolist()


def _kept(folder: RunFolder, *, default: bool) -> Iterator[Float32[np.ndarray, "n layers d"]]:
    for index in sorted(folder.units):
        part = folder.part(index, "kept")
        for name in () if part is None else part.specs:
            if (name.split("/", 1)[0] == DEFAULT) is default:
                yield part.read(name)[None]  # pyright: ignore[reportOptionalMemberAccess]


def _by_role(folder: RunFolder, *statuses: str) -> dict[str, int]:
    count: Counter[str] = Counter()
    for index, unit in folder.units.items():
        if any(unit.meta["statuses"].get(status) for status in statuses):
            rows = folder.rows(index).select(["role", "status"]).to_pylist()
            count.update(row["role"] for row in rows if row["status"] in statuses)
    return dict(count)
