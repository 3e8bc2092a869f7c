"""Profiles of trait runs: how many traits, pairs of prompts and questions, and which pairs are kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

from personascope.engines import Sampling
from personascope.errors import UsageError


@dataclass(frozen=True, slots=True)
class TraitProfile:
    """Sizes and sampling options of a trait run.

    Attributes:
        name: Name of the profile.
        traits: Number of traits, sampled in proportion to their groups; None for all.
        prompts: Number of pairs of prompts per trait; None for all.
        questions: Number of questions, the same for every trait and both poles; None for all.
        max_new_tokens: Maximum length of a response, in tokens; None for that of the map's responses.
        min_pairs: Minimum number of kept pairs for a trait vector.
        min_difference: Minimum difference of the two poles' scores, in points, for a pair to be kept.
        crossed: Whether every question is asked under every pair of prompts, instead of under one of them.
        own_questions: Whether to ask each trait the questions of its own file, instead of the shared bank's.
        keep: Number of responses, sampled at random, whose pooled activations are kept on disk.
        temperature: Sampling temperature.
        top_p: Nucleus mass of the sampling.
        tokens: Which tokens of a response are pooled, as in a map's profile.
    """

    name: str
    traits: int | None
    prompts: int | None
    questions: int | None
    max_new_tokens: int | None
    min_pairs: int
    min_difference: int = 50
    crossed: bool = False
    own_questions: bool = False
    keep: int | Literal["all"] = 512
    temperature: float = 0.7
    top_p: float = 0.9
    tokens: str = "answer"

    @property
    def sampling(self) -> Sampling:
        """Sampling options of the responses."""
        assert self.max_new_tokens is not None
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens)

    @property
    def record(self) -> dict[str, Any]:
        """Values that identify a run."""
        return asdict(self)


TRAIT_PROFILES: dict[str, TraitProfile] = {
    profile.name: profile
    for profile in (
        TraitProfile("quick", 40, 2, 8, None, min_pairs=3),
        TraitProfile("standard", None, 3, 12, None, min_pairs=4),
        TraitProfile("paper", None, None, 40, 512, min_pairs=10, crossed=True),
    )
}
"""The profiles by name; "paper" keeps pairs as section 2 of arXiv 2601.10387 does."""


class TraitChanges(TypedDict, total=False):
    """Values that override a profile's; None keeps the profile's value."""

    traits: int | None
    prompts: int | None
    questions: int | None
    max_new_tokens: int | None
    min_pairs: int | None
    min_difference: int | None
    own_questions: bool | None
    keep: int | Literal["all"] | None
    tokens: str | None


def resolve_trait_profile(profile: TraitProfile | str, **changes: Unpack[TraitChanges]) -> TraitProfile:
    """Return a profile or look it up by name, with some values replaced.

    Raises:
        UsageError: If there is no such profile, or a number is out of range.
    """
    if isinstance(profile, str):
        if profile not in TRAIT_PROFILES:
            raise UsageError(
                f"there is no profile {profile!r}", hint=f"choose one of {', '.join(TRAIT_PROFILES)}"
            )
        profile = TRAIT_PROFILES[profile]
    profile = replace(profile, **{name: value for name, value in changes.items() if value is not None})
    for what, value, least in (
        ("traits", profile.traits, 1),
        ("prompts", profile.prompts, 1),
        # The uncertainty is read off the questions.
        ("questions", profile.questions, 2),
        ("max_new_tokens", profile.max_new_tokens, 1),
        ("min_pairs", profile.min_pairs, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{what} is {value}", hint=f"give {least} or more")
    if not 0 <= profile.min_difference <= 100:
        raise UsageError(
            f"min_difference is {profile.min_difference}", hint="give a difference of 0 to 100 points"
        )
    return profile
