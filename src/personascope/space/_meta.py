"""Metadata of a map: the model, the corpus, norms and quantiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.errors import SpaceError
from personascope.identity import ModelIdentity
from personascope.space._checks import MapChecks
from personascope.space._curve import LearningCurve

PERCENTILES: tuple[int, ...] = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class MapModel:
    """The model that a map was made with, and that its activations must come from."""

    id: str
    revision: str
    dtype: str
    n_layers: int
    d_model: int
    chat_digest: str
    chat_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the chat template; empty for the defaults."""
    chat_date: str = ""
    """Date that the chat template wrote; "" if it writes none."""
    tokens: str = "answer"
    """Part of the responses whose tokens were pooled: "answer", "thinking" or "response"."""

    @property
    def record(self) -> dict[str, Any]:
        """The model as JSON values; keys that earlier maps lack are omitted at their defaults."""
        values = asdict(self)
        later = {"chat_options": {}, "chat_date": "", "tokens": "answer"}
        return {key: value for key, value in values.items() if key not in later or value != later[key]}

    @property
    def identity(self) -> ModelIdentity:
        """Identity of the model, without its dtype."""
        return ModelIdentity(self.id, self.revision, self.n_layers, self.d_model, self.chat_digest)


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles:
    """Projections on the unit axis at the percentiles 1, 5, 10, 25, 50, 75, 90, 95 and 99."""

    role: Float[np.ndarray, "L 9"]
    """Quantiles of responses in a role."""
    default: Float[np.ndarray, "L 9"]
    """Quantiles of the default's responses."""
    percentiles: tuple[int, ...] = PERCENTILES


@dataclass(frozen=True, slots=True, eq=False)
class MapMeta:
    """Metadata that ``PersonaMap.save`` needs in addition to the space."""

    model: MapModel
    corpus_digest: str
    versions: Mapping[str, str]
    command: str
    response_norms: Float[np.ndarray, "L"]
    """Mean norm of the pooled response activations at each layer."""
    quantiles: Quantiles
    unscored: Mapping[str, int] = field(default_factory=dict[str, int])
    """Role -> number of responses without a score from the judge; 0 if absent."""
    empty: Mapping[str, int] = field(default_factory=dict[str, int])
    """Role (or "default") -> number of responses without a token to pool; 0 if absent."""
    curve: LearningCurve | None = None
    """Learning curve of the run; None if it was not recorded."""
    checks: MapChecks | None = None
    """Checks of the mapping run; None for a space that does not come from such a run."""


def projection_quantiles(
    axis: Float[np.ndarray, "L d"], batches: Iterable[Float[np.ndarray, "n L d"]]
) -> Float[np.ndarray, "L 9"]:
    """Compute percentiles of single responses' projections on the unit axis, at every layer.

    Only the projections are held in memory, not the activations.

    Args:
        axis: Axis of every layer, of any norm.
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
