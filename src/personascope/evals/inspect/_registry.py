"""Inspect's entry point: our model provider, tasks, scorers and solvers.

Inspect imports this module whenever it looks for extensions, so heavy modules are imported only when used.
"""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi

from personascope.evals.inspect._scorers import (
    coherence,
    jailbreak_label,
    occupation_label,
    plan_effect,
    role_label,
    role_playing_label,
    trait_label,
)
from personascope.evals.inspect._solvers import of_map, rank_choices
from personascope.evals.inspect._tasks import (
    capability_basics,
    persona_jailbreak,
    role_susceptibility,
    self_description,
)


@modelapi(name="personascope")
def personascope() -> type[ModelAPI]:
    """Return the provider of ``--model personascope/NAME``."""
    from personascope.evals.inspect._provider import PersonascopeAPI

    return PersonascopeAPI


__all__ = [
    "capability_basics",
    "coherence",
    "jailbreak_label",
    "occupation_label",
    "of_map",
    "persona_jailbreak",
    "personascope",
    "plan_effect",
    "rank_choices",
    "role_label",
    "role_playing_label",
    "role_susceptibility",
    "self_description",
    "trait_label",
]
