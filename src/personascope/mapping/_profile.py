"""Profiles: the sizes and sampling options of a mapping run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from personascope.engines import Sampling
from personascope.errors import UsageError

TOKENS = ("answer", "thinking", "response")
"""Parts of a response whose tokens a map can be built from."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes and sampling options of a mapping run.

    Attributes:
        name: Name of the profile.
        roles: Number of roles, sampled in proportion to their groups; None for all.
        prompts: Number of system prompts per role, sampled over short and long ones; None for all.
        questions: Number of questions, the same for every role and the default, sampled over kinds and areas;
            None for all of the kinds.
        crossed: Whether every question is asked under every prompt, instead of under one of them.
        default_samples: Number of rollouts of the default for each of its prompts and each question.
        max_new_tokens: Maximum length of a response, in tokens.
        min_fully: Minimum number of responses for a role vector (score 3).
        min_somewhat: Minimum number of responses for a role's second vector (score 2).
        kinds: Kinds of questions to sample from; None for all but the personal ones.
        longest: Length up to which a short probe may raise ``max_new_tokens`` until most responses end; None
            for no probe.
        role_information: Whether to compute role information, which tells whether a response played its role.
        keep: Number of rollouts, sampled at random, whose pooled activations are kept on disk; "all" for all.
        temperature: Sampling temperature.
        top_p: Nucleus mass of the sampling.
        max_thinking_tokens: Maximum number of thinking tokens before the answer; None for four times
            ``max_new_tokens``.
        tokens: Which tokens of a response are pooled: "answer", "thinking" or "response" (both).
    """

    name: str
    roles: int | None
    prompts: int | None
    questions: int | None
    default_samples: int
    max_new_tokens: int
    min_fully: int
    min_somewhat: int
    crossed: bool = False
    kinds: tuple[str, ...] | None = None
    longest: int | None = None
    role_information: bool = True
    keep: int | Literal["all"] = 512
    temperature: float = 0.7
    top_p: float = 0.9
    max_thinking_tokens: int | None = None
    tokens: str = "answer"

    @property
    def sampling(self) -> Sampling:
        """Sampling options of the responses."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
        )

    @property
    def record(self) -> dict[str, Any]:
        """Values that identify a run; later fields are omitted at their defaults, so old runs match."""
        values = asdict(self)
        if self.max_thinking_tokens is None:
            del values["max_thinking_tokens"]
        if self.tokens == "answer":
            del values["tokens"]
        return values


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("quick", 120, 2, 8, 5, 48, min_fully=3, min_somewhat=3),
        Profile("standard", None, 3, 12, 8, 64, min_fully=4, min_somewhat=4, longest=256),
        Profile("paper", None, None, None, 1, 512, min_fully=10, min_somewhat=10, crossed=True),
    )
}
"""The profiles by name; "paper" is the design of section 2.1 of arXiv 2601.10387."""


def check_profile(profile: Profile) -> None:
    """Check that a design can be made from a profile's values.

    Raises:
        UsageError: If a number is too small or ``tokens`` is unknown; the message names the allowed values.
    """
    for what, value, least in (
        ("roles", profile.roles, 3),
        ("prompts", profile.prompts, 1),
        # Two halves of the questions are compared with each other.
        ("questions", profile.questions, 2),
        ("default_samples", profile.default_samples, 1),
        ("max_new_tokens", profile.max_new_tokens, 1),
        ("max_thinking_tokens", profile.max_thinking_tokens, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{what} is {value}", hint=f"give {least} or more")
    if profile.tokens not in TOKENS:
        raise UsageError(
            f"a map cannot be made of the tokens {profile.tokens!r}", hint=f"give one of {', '.join(TOKENS)}"
        )
