"""Profiles: how much is asked of a model, and how much a role vector must rest on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from personascope.engines import Sampling
from personascope.errors import UsageError

TOKENS = ("answer", "thinking", "response")
"""Tokens of a response that a map can be made of."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How much is asked of a model, and how much a role vector must rest on.

    Attributes:
        name: Its name.
        roles: Roles, drawn in proportion over their groups; None for all.
        prompts: System prompts of each role, drawn over short and long; None for all.
        questions: Questions, the same for every role and the default, drawn over kinds and areas; None
            for all of the kinds.
        crossed: Whether every question is asked under every prompt, instead of under one of them.
        default_samples: Rollouts of the default for each of its prompts and each question.
        max_new_tokens: Length of a response at most.
        min_fully: Responses that a role vector needs.
        min_somewhat: Responses that a role's second vector, of the score 2, needs.
        kinds: Kinds of question to draw from; None for all but the personal ones.
        longest: A short probe may raise the length to this, until most responses end by themselves; None
            for no probe.
        role_information: Whether every response is checked for having played its role.
        keep: Pooled activations that stay on the disk, a seeded sample of all rollouts.
        temperature: Sampling temperature.
        top_p: Nucleus mass of the sampling.
        max_thinking_tokens: Tokens at most before a model that thinks begins its answer; None for four times
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
        """How tokens are drawn."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            max_thinking_tokens=self.max_thinking_tokens,
        )

    @property
    def record(self) -> dict[str, Any]:
        """The values that make a run what it is; what came later and is at its default is left out."""
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
    """Refuse numbers of a profile of which no design can be made.

    Raises:
        UsageError: Naming the number, its value and its least one.
    """
    for what, value, least in (
        ("roles", profile.roles, 3),
        ("prompts", profile.prompts, 1),
        # Two halves of the questions are held against each other.
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
