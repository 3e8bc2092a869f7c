"""Checks that a map records: its design, whether roles were played, and correlations with nuisances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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
"""Nuisance variables measured for every response, in the order of all arrays over nuisances."""

MADE_OF = {"played": "responses that played", "rubric": "all responses with the score 3"}
"""What role vectors are made of, in words."""

Grade = Literal["found", "weak", "not found", "unknown"]
"""Grade of an answer of the verdict."""

FOLLOWED: tuple[str, ...] = ("axis", "PC1", "PC2", "PC3")
"""Directions that the nuisances are correlated with, in the order of ``MapChecks.correlations``."""


@dataclass(frozen=True, slots=True)
class RolePlay:
    """How well the model played a role.

    Attributes:
        responses: Number of responses with tokens.
        played: Number of responses that played the role.
        information: Mean role information, in nats per token.
    """

    responses: int
    played: int
    information: float


@dataclass(frozen=True, slots=True)
class OtherVectors:
    """The verdict on a map of the same run whose role vectors are made of other responses.

    Attributes:
        vectors: Kind of responses in its role vectors, "played" or "rubric".
        layer: Its middle layer.
        axis: Whether there is an axis.
        main: Whether the axis is its main component.
        default: Whether the default is at the end of its first component.
    """

    vectors: str
    layer: int
    axis: Grade
    main: Grade
    default: Grade


@dataclass(frozen=True, slots=True, eq=False)
class MapChecks:
    """Checks of a mapping run; N nuisances.

    Attributes:
        design: Name of the design.
        profile: Profile, seed, and numbers of roles, prompts, questions and tokens.
        vectors: "played" if role vectors use only responses that played, "rubric" if they use all with score
            3.
        threshold: Role information above which a response has played, in nats per token; None if not
            measured.
        roles: Role name -> how well it was played; empty if not measured.
        cut: Share of all responses that were cut off by the length limit.
        garbled: Share of all responses that are loops or garble.
        perplexity: Perplexity of the responses under the model that wrote them; None if not measured.
        correlations: Correlations of the roles' mean nuisances with their projections on axis, PC1, PC2 and
            PC3, [L, N, 4].
        n_roles: Number of roles in the correlations.
        length_adjusted: Whether response length was regressed out, within questions.
        judges: Judge name -> number of responses that it scored; empty without a judge, and in maps of
            versions that did not count them.
        cosines: Cosines of the axis with the first five components, by layer; empty in maps of versions that
            did not record them.
        other: Verdict on the map of the other kind of vectors; None if the run makes no such map, and in maps
            of versions that did not look.
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
    cosines: Sequence[Sequence[float]] = field(default_factory=list[list[float]])
    other: OtherVectors | None = None

    @property
    def made_of(self) -> str:
        """What the role vectors are made of, in words."""
        return MADE_OF[self.vectors]

    @property
    def played(self) -> float | None:
        """Share of the roles' responses that played; None if not measured."""
        total = sum(role.responses for role in self.roles.values())
        return sum(role.played for role in self.roles.values()) / total if total else None

    @property
    def information(self) -> float | None:
        """Mean role information of the roles' responses, in nats per token; None if not measured."""
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
    """Correlate the roles' mean nuisances with their projections on the axis and the first three components.

    The correlation is 0 if a side does not vary over roles.
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
