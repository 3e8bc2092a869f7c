"""Use an imported release in place of a map, as far as its vectors go."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from personascope.errors import StoreError, UsageError
from personascope.interop._released import Released
from personascope.space import DIMENSIONS, Finding, MapModel, PersonaMap, Quantiles, SpaceStats, Verdict

_LACKS = "an imported release has no {}: they come from the responses behind a map"
_MAKE = "map the model with personascope map"


class ReleasedMap(PersonaMap):
    """An imported release as a map: axis, default and role vectors, and positions if it has both.

    A release has no components, percentiles, intervals and norms. It does not name its model either:
    `use_model` sets it, and only the shape is checked.

    Attributes:
        folder: Folder of the release.
        released: Release in that folder.
    """

    def __init__(self, folder: Path, released: Released) -> None:
        """Wrap an imported release."""
        self.folder = folder
        self.released = released
        self._model = MapModel("", "", "", released.n_layers, released.d_model, "")

    @property
    def lacking(self) -> str:
        """Parts of a map that the release lacks, for people."""
        if self._has_units:
            return "no components, percentiles, intervals or norms"
        absent = "default vector" if self.released.default_vector is None else "role vectors"
        return (
            f"no {absent}, so projections are raw, without positions; "
            "no components, percentiles, intervals or norms"
        )

    @property
    def curve(self) -> None:
        """None: a release records no learning curve."""

    def verify(self) -> None:
        """Do nothing: the whole release was compared with its digest when it was opened."""

    def use_model(self, model: MapModel) -> None:
        """Set the model that the release belongs to.

        Raises:
            StoreError: If the model has another number of layers or another width.
        """
        self.check_model(
            model_id=model.id, revision="", n_layers=model.n_layers, d_model=model.d_model, chat_digest=""
        )
        self._model = model

    def check_model(
        self, *, model_id: str, revision: str, n_layers: int, d_model: int, chat_digest: str
    ) -> None:
        """Refuse a model of another shape; a release knows nothing else about its model.

        Raises:
            StoreError: If the number of layers or the width differs.
        """
        del revision, chat_digest
        if (n_layers, d_model) != (self.n_layers, self.d_model):
            raise StoreError(
                f"the release in {self.folder} is of a model with {self.n_layers} layers of {self.d_model}, "
                f"{model_id} has {n_layers} of {d_model}",
                hint="name the model that it was released for by --model",
            )

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the roles with a vector."""
        return tuple(self.released.role_vectors)

    @property
    def somewhat(self) -> tuple[str, ...]:
        """Empty: a release has no "somewhat" vectors."""
        return ()

    @property
    def excluded(self) -> dict[str, int]:
        """Empty: a release does not name excluded roles."""
        return {}

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Empty: a release has no response counts."""
        return {}

    @property
    def minimums(self) -> tuple[int, int]:
        """Zeros: a release does not say the minimum numbers of responses."""
        return 0, 0

    @property
    def corpus_digest(self) -> str:
        """Empty: a release does not identify its corpus."""
        return ""

    @property
    def versions(self) -> dict[str, str]:
        """Empty: a release does not record versions."""
        return {}

    @property
    def command(self) -> str:
        """Empty: a release does not record a command."""
        return ""

    @property
    def model(self) -> MapModel:
        """Model that `use_model` set; without a name before."""
        return self._model

    @property
    def n_layers(self) -> int:
        """Number of layers, L."""
        return self.released.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream, d."""
        return self.released.d_model

    @property
    def middle_layer(self) -> int:
        """Layer at half of the depth, as in the paper."""
        return self.n_layers // 2

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the axis."""
        return hashlib.sha256(self.axis.tobytes()).hexdigest()

    @cached_property
    def axis(self) -> Float32[np.ndarray, "L d"]:
        """Assistant Axis, not scaled."""
        return self.released.axis.float().numpy()

    @property
    def default_vector(self) -> Float32[np.ndarray, "L d"]:
        """Mean activation of the default.

        Raises:
            UsageError: If the release has none.
        """
        if self.released.default_vector is None:
            raise UsageError(f"the release in {self.folder} has no default vector", hint=_MAKE)
        return self.released.default_vector.float().numpy()

    @property
    def response_norms(self) -> Float[np.ndarray, "L"]:
        """Raise: a release has no norms."""
        raise UsageError(_LACKS.format("response norms"), hint=_MAKE)

    @property
    def quantiles(self) -> Quantiles:
        """Raise: a release has no quantiles."""
        raise UsageError(_LACKS.format("quantiles"), hint=_MAKE)

    def role_vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Return the mean activation of a role's responses.

        Raises:
            UsageError: If the release has no vector of that role.
        """
        if name not in self.released.role_vectors:
            raise UsageError(f"the release has no vector of {name!r}")
        return self.released.role_vectors[name].float().numpy()

    def role_vectors(self, layer: int) -> Float32[np.ndarray, "R d"]:
        """Return all role vectors at one layer."""
        at = self._layer(layer)
        rows = [vector[at].float().numpy() for vector in self.released.role_vectors.values()]
        return np.stack(rows) if rows else np.zeros((0, self.d_model), np.float32)

    def components(self, layer: int) -> Float32[np.ndarray, "K d"]:
        """Raise: a release has no components."""
        self._layer(layer)
        raise UsageError(_LACKS.format("principal components"), hint=_MAKE)

    def mean(self, layer: int) -> Float32[np.ndarray, "d"]:
        """Raise: a release has no mean of a PCA."""
        self._layer(layer)
        raise UsageError(_LACKS.format("principal components"), hint=_MAKE)

    def percentile(self, projection: Float[np.ndarray, "*batch"] | float, layer: int) -> Any:
        """Return NaN, because a release has no single responses."""
        self._layer(layer)
        found = np.full(np.shape(projection), np.nan)
        return float(found) if found.ndim == 0 else found

    @property
    def _has_units(self) -> bool:
        return self.released.default_vector is not None and (
            bool(self.released.role_vectors) or self.released.role_mean is not None
        )

    @cached_property
    def stats(self) -> SpaceStats:
        """Projections of roles, mean role and default, and role cosines; all else is NaN or 0."""
        n_layers, n_roles = self.n_layers, len(self.roles)
        unit = self._unit
        sizes = {"L": n_layers, "R": n_roles, "K": 0, "S": 0, "V": 0, "P": 0}
        values: dict[str, Any] = {}
        for field in dataclasses.fields(SpaceStats):
            symbols = DIMENSIONS.get(f"stats.{field.name}")
            shape = tuple(int(sizes.get(one, one)) for one in symbols or ())
            values[field.name] = 0 if symbols is None else np.full(shape, np.nan)
        nothing = np.full(n_layers, np.nan)
        if n_roles:
            stacked = np.stack([self.role_vectors(layer) for layer in range(n_layers)]).astype(np.float64)
            values["projections"] = np.einsum("lrd,ld->lr", stacked, unit)
            about = stacked - stacked.mean(axis=1, keepdims=True)
            size = np.maximum(np.linalg.norm(about, axis=2), 1e-300)
            values["role_cosines"] = np.einsum("lrd,ld->lr", about, unit) / size
            values["mean_projection"] = values["projections"].mean(axis=1)
        elif self.released.role_mean is not None:
            values["mean_projection"] = np.einsum("ld,ld->l", self.released.role_mean.double().numpy(), unit)
        default = None if self.released.default_vector is None else self.default_vector.astype(np.float64)
        values["default_projection"] = nothing if default is None else np.einsum("ld,ld->l", default, unit)
        return SpaceStats(**values)

    @cached_property
    def checks(self) -> None:
        """None: a release does not record what its run checked."""

    @property
    def design(self) -> str:
        """Origin of the vectors, for people."""
        return f"released vectors of {self.released.source or 'an axis file'}"

    def verdict(self, layer: int | None = None) -> Verdict:
        """Return an unknown verdict, because a release has no counts and folds."""
        unknown = Finding("unknown", ("an imported release has no responses from which it could be told",))
        return Verdict(
            self._layer(self.middle_layer if layer is None else layer), unknown, unknown, unknown, ()
        )
