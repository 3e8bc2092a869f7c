"""What a map records of its own making: design, whether roles were played, what its components follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

NUISANCES: tuple[str, ...] = (
    "length",
    "having ended",
    "lists and markdown",
    "another script",
    "naming itself an AI",
    "first person",
    "garble",
)
"""What is measured of every response, in the order of all arrays over them."""

FOLLOWED: tuple[str, ...] = ("axis", "PC1", "PC2", "PC3")
"""What the nuisances are correlated with, in the order of ``MapChecks.correlations``."""


@dataclass(frozen=True, slots=True)
class RolePlay:
    """How a role was played.

    Attributes:
        responses: Its responses with tokens.
        played: Those that played.
        information: Mean role information, nats a token.
    """

    responses: int
    played: int
    information: float


@dataclass(frozen=True, slots=True, eq=False)
class MapChecks:
    """The checks that a run made of itself; N nuisances.

    Attributes:
        design: What the design is called.
        profile: Profile, seed, and numbers of roles, prompts, questions and tokens.
        vectors: "played" if vectors are made of responses that played, "rubric" if of all with the score 3.
        threshold: Role information above which a response played, nats a token; None if it was not measured.
        roles: How each role was played; empty if it was not measured.
        cut: Share of all responses that ran into the limit.
        garbled: Share of all responses that are loops or garble by their form.
        perplexity: Of the responses under the model that wrote them; None if it was not measured.
        correlations: Of the roles' mean nuisances with their places on axis, PC1, PC2 and PC3, [L, N, 4].
        n_roles: Roles that the correlations are over.
        length_adjusted: Whether the length of responses was regressed out, within questions.
        judges: Name of a judge -> responses that it scored; empty without a judge, and in maps of versions
            that did not count them.
    """

    design: str
    profile: Mapping[str, Any]
    vectors: str
    threshold: float | None
    roles: Mapping[str, RolePlay]
    cut: float
    garbled: float
    perplexity: float | None
    correlations: Float[np.ndarray, "L N 4"]
    n_roles: int
    length_adjusted: bool = False
    judges: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def played(self) -> float | None:
        """Share of the roles' responses that played; None if it was not measured."""
        total = sum(role.responses for role in self.roles.values())
        return sum(role.played for role in self.roles.values()) / total if total else None

    @property
    def information(self) -> float | None:
        """Mean role information of the roles' responses, nats a token; None if it was not measured."""
        total = sum(role.responses for role in self.roles.values())
        if not total:
            return None
        return sum(role.information * role.responses for role in self.roles.values()) / total


def correlate(
    nuisances: Float[np.ndarray, "R N"],
    projections: Float[np.ndarray, "L R"],
    role_vectors: Float[np.ndarray, "L R d"],
    mean: Float[np.ndarray, "L d"],
    components: Float[np.ndarray, "L K d"],
) -> Float[np.ndarray, "L N 4"]:
    """Correlate the roles' mean nuisances with their places on the axis and on the first three components.

    What does not vary over roles correlates with nothing: 0.
    """
    n_layers, n_roles = projections.shape
    places = np.zeros((n_layers, n_roles, len(FOLLOWED)))
    places[:, :, 0] = projections
    for layer in range(n_layers):
        first = components[layer, :3].astype(np.float64)
        places[layer, :, 1 : 1 + len(first)] = (
            role_vectors[layer].astype(np.float64) - mean[layer]
        ) @ first.T

    def standard(values: np.ndarray, axis: int) -> np.ndarray:
        about = values - values.mean(axis=axis, keepdims=True)
        size = np.linalg.norm(about, axis=axis, keepdims=True)
        scale = np.abs(values).max(axis=axis, keepdims=True, initial=0.0)
        return np.where(size > 1e-9 * np.maximum(scale, 1e-300), about / np.maximum(size, 1e-300), 0.0)

    return np.einsum("rn,lrk->lnk", standard(nuisances, 0), standard(places, 1))
