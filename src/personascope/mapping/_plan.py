"""Design of a run from the model's shape and a profile: unit size, folds, and the run's identity."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import personascope
from personascope.corpus import Corpus
from personascope.engines import EngineInfo, sampling_record
from personascope.errors import UsageError
from personascope.judge import RUBRIC_DIGEST
from personascope.mapping._adaptive import as_adaptive
from personascope.mapping._design import MAX_FOLDS, Design, build_design
from personascope.mapping._profile import PROFILES, Profile, check_profile
from personascope.mapping._sums import STORED_FOLDS, Vectors
from personascope.mapping._until import Until

ADAPTIVE_FOLDS = 40
"""Maximum number of folds of an adaptive design that crosses questions and prompts. The precision of its axis
is read off the scatter of blocks of questions, and a block takes a fold for each slot of a prompt."""

UNIT_ROLLOUTS = 512
UNIT_BYTES = 512 * 2**20
"""Upper limits of a unit: number of rollouts, and bytes of their pooled activations."""

SUMS_BYTES = 16 * 10**9
"""Maximum disk use of the sums of all roles, in bytes, which limits the number of folds."""

MIN_FOLDS = 4


class ProfileChanges(TypedDict, total=False):
    """Values that override a profile's; None keeps the profile's value."""

    roles: int | None
    prompts: int | None
    questions: int | None
    kinds: tuple[str, ...] | None
    default_samples: int | None
    max_new_tokens: int | None
    longest: int | None
    max_thinking_tokens: int | None
    tokens: str | None
    role_information: bool | None
    keep: int | Literal["all"] | None
    min_fully: int | None
    min_somewhat: int | None


def plan_run(
    info: EngineInfo,
    corpus: Corpus,
    profile: Profile | str,
    *,
    seed: int = 0,
    model_name: str | None = None,
    until: Until | None = None,
    vectors: Vectors = "played",
    **changes: Unpack[ProfileChanges],
) -> Design:
    """Create the design for a model, with folds and unit size that fit its shape.

    Args:
        info: Engine information.
        corpus: Roles, questions and the default's prompts.
        profile: Profile, or its name.
        seed: Random seed.
        model_name: Name of the model in the default's prompts; by default the last part of its id.
        until: What an adaptive run stops at; None for a fixed design.
        vectors: Responses in the role vectors of an adaptive run's looks.
        changes: Values that override the profile's.

    Raises:
        UsageError: If there is no such profile, or the corpus is too small for it.
        CorpusError: If a role's name is no valid file name.
    """
    profile = resolve_profile(profile, **changes)
    pooled = info.n_layers * info.d_model * 4
    name = model_name or Path(info.model_id.rstrip("/")).name.removesuffix(".gguf")
    unit_size = max(1, min(UNIT_ROLLOUTS, UNIT_BYTES // pooled))
    folds = ADAPTIVE_FOLDS if until and profile.crossed else MAX_FOLDS
    while True:
        design = build_design(corpus, profile, seed, name, max_folds=folds, unit_size=unit_size)
        if folds <= MIN_FOLDS or sum(slots_of(design)) * pooled <= SUMS_BYTES:
            return as_adaptive(design, until, vectors) if until else design
        folds -= 1


def resolve_profile(profile: Profile | str, **changes: Unpack[ProfileChanges]) -> Profile:
    """Return a profile or look it up by name, with some values replaced.

    Raises:
        UsageError: If there is no such profile, or a number is too small.
    """
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise UsageError(f"there is no profile {profile!r}", hint=f"choose one of {', '.join(PROFILES)}")
        profile = PROFILES[profile]
    profile = replace(profile, **{name: value for name, value in changes.items() if value is not None})
    check_profile(profile)
    return profile


def slots_of(design: Design) -> list[int]:
    """Return each role's maximum number of stored sums: one per bucket and fold, or one per response."""
    apart = sum(folds or design.n_folds for folds in STORED_FOLDS.values())
    return [min(apart, design.size(group + 1)) for group in range(len(design.roles))]


def identity_of(info: EngineInfo, design: Design, judge: str | None) -> dict[str, Any]:
    """Return the identity that must match when a run is resumed; the judge is identified by name."""
    model = {field.name: getattr(info, field.name) for field in fields(info)}
    versions = {**model.pop("versions"), "personascope": personascope.__version__}
    for name in ("chat_options", "chat_date"):
        del model[name]
    model |= info.chat_record
    return {
        "model": model,
        "versions": versions,
        "corpus": design.corpus.digest,
        "profile": design.profile.record,
        "sampling": sampling_record(design.profile.sampling),
        "seed": design.seed,
        "model_name": design.model_name,
        "n_folds": design.n_folds,
        "unit_size": design.unit_size,
        "design": design.digest,
        "judge": None if judge is None else {"name": judge, "rubric": RUBRIC_DIGEST},
        **design.identity,
    }
