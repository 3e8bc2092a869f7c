"""What a map records beside its vectors: the model, the corpus, norms and quantiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.errors import SpaceError
from personascope.identity import ModelIdentity
from personascope.space._checks import MapChecks

PERCENTILES: tuple[int, ...] = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class MapModel:
    """The model that a map was made with; another model's activations must not be read with it."""

    id: str
    revision: str
    dtype: str
    n_layers: int
    d_model: int
    chat_digest: str
    chat_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the chat template that were asked for, empty for the defaults."""
    chat_date: str = ""
    """Date that the chat template wrote, "" for one that writes none."""
    tokens: str = "answer"
    """Tokens of responses that were pooled."""

    @property
    def record(self) -> dict[str, Any]:
        """The model as JSON values; what earlier maps have no key for is left out at its default."""
        values = asdict(self)
        later = {"chat_options": {}, "chat_date": "", "tokens": "answer"}
        return {key: value for key, value in values.items() if key not in later or value != later[key]}

    @property
    def identity(self) -> ModelIdentity:
        """What tells the model from another; its dtype does not."""
        return ModelIdentity(self.id, self.revision, self.n_layers, self.d_model, self.chat_digest)


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """Projections on the unit axis at the percentiles 1, 5, 10, 25, 50, 75, 90, 95 and 99."""

    role: Float[np.ndarray, "L 9"]
    """Of responses in a role."""
    default: Float[np.ndarray, "L 9"]
    """Of the default's responses."""
    percentiles: tuple[int, ...] = PERCENTILES


@dataclass(frozen=True, slots=True, eq=False)
class MapMeta:
    """All that ``PersonaMap.save`` needs beside the space."""

    model: MapModel
    corpus_digest: str
    versions: Mapping[str, str]
    command: str
    response_norms: Float[np.ndarray, "L"]
    """Mean norm of the residual stream over response tokens: the unit of steering strengths."""
    quantiles: Quantiles
    unscored: Mapping[str, int] = field(default_factory=dict[str, int])
    """Responses of each role that the judge gave no score; a role left out has none."""
    empty: Mapping[str, int] = field(default_factory=dict[str, int])
    """Responses of each role (or "default") without a token to pool."""
    checks: MapChecks | None = None
    """What the run checked of itself; None for a space that no run of this design made."""


def projection_quantiles(
    axis: Float[np.ndarray, "L d"], batches: Iterable[Float[np.ndarray, "n L d"]]
) -> Float[np.ndarray, "L 9"]:
    """Percentiles of single responses' projections on the unit axis, at every layer.

    Only the projections are kept, not the activations.

    Args:
        axis: The axis, of any length.
        batches: Pooled activations of a sample of responses.

    Raises:
        SpaceError: If there is no response, a shape does not fit, or a value is not finite.
    """
    unit = axis.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    kept: list[np.ndarray] = []
    for batch in batches:
        if batch.ndim != 3 or batch.shape[1:] != axis.shape:
            raise SpaceError(f"activations of shape {batch.shape} do not fit an axis of {axis.shape}")
        kept.append(np.einsum("nld,ld->nl", batch, unit))
    if not sum(len(k) for k in kept):
        raise SpaceError("quantiles of projections need at least one response, and the sample is empty")
    all_ = np.concatenate(kept)
    if not np.isfinite(all_).all():
        raise SpaceError("the sample of activations holds values that are not finite")
    return np.percentile(all_, PERCENTILES, axis=0).T
