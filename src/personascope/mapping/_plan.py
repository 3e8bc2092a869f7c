"""From a model's shape and a profile to a design: unit size, folds, and the run's identity."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import personascope
from personascope.corpus import Corpus
from personascope.engines import EngineInfo
from personascope.errors import UsageError
from personascope.judge import RUBRIC_DIGEST, Judge
from personascope.mapping._design import PROFILES, Design, Profile, build_design
from personascope.mapping._sums import STORED_FOLDS

UNIT_ROLLOUTS = 512
UNIT_BYTES = 512 * 2**20
"""Bounds of a unit: its rollouts, and the bytes of their pooled activations."""

SUMS_BYTES = 8 * 10**9
"""The sums of all roles shall take no more on the disk; the number of folds follows from it."""

MAX_FOLDS, MIN_FOLDS = 8, 4


def plan_run(
    info: EngineInfo,
    corpus: Corpus,
    profile: Profile | str,
    *,
    seed: int = 0,
    keep: int | Literal["all"] | None = None,
    questions: int | None = None,
    default_samples: int | None = None,
    model_name: str | None = None,
) -> Design:
    """Make the design for a model: folds and unit size follow from its shape.

    Args:
        info: The engine's.
        corpus: Roles, questions and the default's prompts.
        profile: A profile or the name of one.
        seed: Of everything that is drawn.
        keep: Replaces the profile's.
        questions: Replaces the profile's.
        default_samples: Replaces the profile's.
        model_name: What the default's prompts call the model; by default the last part of its id.

    Raises:
        UsageError: If there is no such profile, or the corpus is too small for it.
        CorpusError: If a role's name cannot be a file's.
    """
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise UsageError(f"there is no profile {profile!r}", mend=f"choose one of {', '.join(PROFILES)}")
        profile = PROFILES[profile]
    if keep is not None:
        profile = replace(profile, keep=keep)
    if questions is not None:
        profile = replace(profile, questions=questions)
    if default_samples is not None:
        profile = replace(profile, default_samples=default_samples)
    pooled = info.n_layers * info.d_model * 4
    name = model_name or Path(info.model_id.rstrip("/")).name
    design = build_design(
        corpus,
        profile,
        seed,
        name,
        unit_size=max(1, min(UNIT_ROLLOUTS, UNIT_BYTES // pooled)),
    )
    folds = MAX_FOLDS
    while folds > MIN_FOLDS and sum(slots_of(design, folds)) * pooled > SUMS_BYTES:
        folds -= 1
    return replace(design, n_folds=folds)


def slots_of(design: Design, n_folds: int) -> list[int]:
    """Return how many sums each role has at most on the disk."""
    apart = n_folds + sum(folds or 0 for folds in STORED_FOLDS.values())
    return [min(apart, design.size(group + 1)) for group in range(len(design.corpus.roles))]


def identity_of(info: EngineInfo, design: Design, judge: Judge | None) -> dict[str, Any]:
    """Return what must be the same when a run is taken up again."""
    model = {field.name: getattr(info, field.name) for field in fields(info)}
    versions = {**model.pop("versions"), "personascope": personascope.__version__}
    return {
        "model": model,
        "versions": versions,
        "corpus": design.corpus.digest,
        "profile": asdict(design.profile),
        "sampling": asdict(design.profile.sampling),
        "seed": design.seed,
        "model_name": design.model_name,
        "n_folds": design.n_folds,
        "unit_size": design.unit_size,
        "design": design.digest,
        "judge": None if judge is None else {"name": judge.name, "rubric": RUBRIC_DIGEST},
    }
