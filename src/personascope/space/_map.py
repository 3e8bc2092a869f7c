"""The PersonaMap: a persona map's folder, read lazily."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from personascope.errors import StoreError, UsageError
from personascope.identity import ModelIdentity
from personascope.space._checks import MapChecks
from personascope.space._curve import LearningCurve
from personascope.space._map_traits import MapTraits, traits_of_map
from personascope.space._meta import MapMeta, MapModel, Quantiles
from personascope.space._record import MapRecord
from personascope.space._save import FORMAT, MAP, MAP_JSON, TENSORS, write_map
from personascope.space._space import Space, SpaceStats
from personascope.space._tensors import REMAKE, MapTensors
from personascope.space._verdict import Verdict, verdict_at
from personascope.store import file_sha256, read_record

FIRST_DESIGN = "fixed questions, one prompt a role (1)"
"""Design name of maps that recorded no checks."""


class PersonaMap:
    """A model's persona space and Assistant Axis on disk.

    Layers are 0-based: layer l is the residual stream after block l. The axis points toward the Assistant.
    Tensors are read only on demand. Create it with ``PersonaMap.open``.
    """

    def __init__(self, folder: Path, record: MapRecord, tensors: MapTensors) -> None:
        """Wrap an opened and checked folder; use ``open`` instead."""
        self.folder = folder
        self._record = record
        self._tensors = tensors

    @staticmethod
    def save(folder: Path | str, space: Space, meta: MapMeta) -> None:
        """Write a map atomically; replace an earlier map in the folder.

        Raises:
            StoreError: If the disk is full, the folder cannot be written, or it holds something other than a
                map.
            SpaceError: If the metadata does not fit the space.
        """
        write_map(Path(folder), space, meta)

    @classmethod
    def open(cls, folder: Path | str) -> PersonaMap:
        """Open a map; read ``map.json`` and the header of ``map.safetensors``.

        Tensors are compared with their digests when they are first read. A map of an earlier version has only
        a digest of the whole file, which is compared here.

        Args:
            folder: Folder of the map, or the run folder that holds it as ``map``.

        Raises:
            StoreError: If a file is missing, truncated, damaged, changed, or of another format version.
        """
        folder = Path(folder)
        if (folder / MAP).is_dir():
            folder = folder / MAP
        path, tensors_path = folder / MAP_JSON, folder / TENSORS
        if not path.exists():
            raise StoreError(f"{path} does not exist: {folder} is not a map", hint=REMAKE)
        record = read_record(path, MapRecord, hint=REMAKE, format=FORMAT)
        tensors = MapTensors(tensors_path)
        if tensors.pair != record.pair:
            raise StoreError(f"{tensors_path} and {MAP_JSON} are of different maps", hint=REMAKE)
        record.check(path, tensors.shapes, REMAKE)
        tensors.digests = record.digests
        opened = cls(folder, record, tensors)
        if record.digests is None:
            opened.verify()
        return opened

    def verify(self) -> None:
        """Compare the digest of the whole tensor file with the one in ``map.json``.

        Raises:
            StoreError: If they differ, or the file cannot be read.
        """
        path = self.folder / TENSORS
        try:
            digest = file_sha256(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}", hint=REMAKE) from error
        if digest != self._record.sha256:
            raise StoreError(f"{path} was changed since it was written", hint=REMAKE)

    def _layer(self, layer: int) -> int:
        if not 0 <= layer < self.n_layers:
            raise UsageError(f"layer {layer} is not in the map", hint=f"Choose 0 to {self.n_layers - 1}.")
        return layer

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the R roles with a vector, in the order of every array over roles."""
        return tuple(self._record.roles)

    @property
    def somewhat(self) -> tuple[str, ...]:
        """Names of the S roles with a "somewhat" vector."""
        return tuple(self._record.somewhat)

    @property
    def excluded(self) -> dict[str, int]:
        """Role -> number of "fully" responses, for roles with too few for a vector."""
        return dict(self._record.excluded)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Numbers of responses of every role and "default": fully, somewhat, other, unscored, empty."""
        return {name: dict(row) for name, row in self._record.counts.items()}

    @property
    def model(self) -> MapModel:
        """The model that the map was made with."""
        return self._record.model

    @property
    def n_layers(self) -> int:
        """Number of layers, L."""
        return self._record.model.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream, d."""
        return self._record.model.d_model

    @property
    def middle_layer(self) -> int:
        """Layer of loadings and intervals, and the default layer of projections."""
        return self._record.middle_layer

    @property
    def minimums(self) -> tuple[int, int]:
        """Minimum numbers of responses for a "fully" and a "somewhat" vector."""
        return self._record.min_fully, self._record.min_somewhat

    @property
    def corpus_digest(self) -> str:
        """Digest of the corpus of roles and questions."""
        return self._record.corpus_digest

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the map's tensor file, which identifies the map."""
        return self._record.sha256

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that made the map."""
        return dict(self._record.versions)

    @property
    def command(self) -> str:
        """Command line that made the map."""
        return self._record.command

    @cached_property
    def axis(self) -> Float32[np.ndarray, "L d"]:
        """The Assistant Axis, not scaled (METHOD 2)."""
        return self._tensors.get("axis")

    @cached_property
    def _unit(self) -> Float[np.ndarray, "L d"]:
        axis = self.axis.astype(np.float64)
        return axis / np.linalg.norm(axis, axis=1, keepdims=True)

    @property
    def default_vector(self) -> Float32[np.ndarray, "L d"]:
        """Mean activation of the default's responses."""
        return self._tensors.get("default_vector")

    @property
    def response_norms(self) -> Float[np.ndarray, "L"]:
        """Mean norm of the pooled response activations at each layer."""
        return self._tensors.get("response_norms")

    @property
    def quantiles(self) -> Quantiles:
        """Percentiles of single responses' projections on the unit axis."""
        return Quantiles(
            self._tensors.get("quantiles.role"),
            self._tensors.get("quantiles.default"),
            tuple(self._record.percentiles),
        )

    @cached_property
    def stats(self) -> SpaceStats:
        """Cosines, positions, variance and their uncertainty."""
        return SpaceStats(**{f.name: self._stat(f.name) for f in dataclasses.fields(SpaceStats)})

    def _stat(self, name: str) -> Any:
        if f"stats.{name}" in self._record.tensors:
            return self._tensors.get(f"stats.{name}")
        if name in self._record.stats:
            return self._record.stats[name]
        # A map of an earlier version did not compute this statistic.
        return np.full((self.n_layers, 2) if name.endswith("_interval") else self.n_layers, np.nan)

    @cached_property
    def checks(self) -> MapChecks | None:
        """Checks of the mapping run; None for a map of the first design, which had none.

        Raises:
            StoreError: If the record is damaged.
        """
        record = self._record.checks
        return None if record is None else record.made(self._tensors.get("checks.correlations"))

    @property
    def curve(self) -> LearningCurve | None:
        """Learning curve of the run; None for a map of a version that did not record it."""
        return None if self._record.curve is None else self._record.curve.made()

    @property
    def traits(self) -> tuple[MapTraits, ...]:
        """Sets of traits that were run on this map (``personascope traits``), sorted by name.

        Raises:
            StoreError: If a set is damaged.
        """
        return traits_of_map(self.folder, self.digest)[0]

    @property
    def stale_traits(self) -> tuple[str, ...]:
        """Names of sets of traits in the folder whose cosines are with the axis of an earlier map.

        Raises:
            StoreError: If a set is damaged.
        """
        return traits_of_map(self.folder, self.digest)[1]

    @property
    def lacking(self) -> str:
        """What an imported release lacks compared with a map, as text for people; "" for a map."""
        return ""

    @property
    def design(self) -> str:
        """Name of the design that the map was made with."""
        return FIRST_DESIGN if self.checks is None else self.checks.design

    def verdict(self, layer: int | None = None) -> Verdict:
        """Assess whether there is an axis, it is the main component, and the default is at its end.

        Args:
            layer: Layer to assess; the middle layer by default.

        Raises:
            UsageError: If the layer is not in the map.
        """
        return verdict_at(self.stats, self.checks, self._layer(self.middle_layer if layer is None else layer))

    def __repr__(self) -> str:
        """Return a short description of the map, with the verdict first."""
        found = self.verdict()
        return (
            f"PersonaMap of {self.model.id}: {found.headline}\n"
            f"  layer {self.middle_layer} of {self.n_layers}, {len(self.roles)} roles, {self.design}, "
            f"in {self.folder}"
        )

    def role_vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Return the mean activation of a role's "fully" responses.

        Raises:
            UsageError: If the map has no vector of that role.
        """
        return self._tensors.vector("role_vectors", self._index(name, self.roles))

    def somewhat_vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Return the mean activation of a role's "somewhat" responses.

        Raises:
            UsageError: If the map has no such vector of that role.
        """
        return self._tensors.vector("somewhat_vectors", self._index(name, self.somewhat))

    def _index(self, name: str, names: tuple[str, ...]) -> int:
        if name not in names:
            counted = self.counts.get(name)
            why = f"it has too few responses ({counted})" if counted else "it is not a role of the corpus"
            raise UsageError(f"the map has no such vector of {name!r}: {why}")
        return names.index(name)

    def role_vectors(self, layer: int) -> Float32[np.ndarray, "R d"]:
        """Return all "fully" vectors at one layer."""
        return self._tensors.layer("role_vectors", self._layer(layer))

    def components(self, layer: int) -> Float32[np.ndarray, "K d"]:
        """Return the unit principal components at one layer."""
        return self._tensors.layer("components", self._layer(layer))

    def mean(self, layer: int) -> Float32[np.ndarray, "d"]:
        """Return the mean of all vectors in the PCA at one layer."""
        return self._tensors.get("mean")[self._layer(layer)]

    def unit_axis(self, layer: int) -> Float32[np.ndarray, "d"]:
        """Return the axis at one layer, normalised to length 1."""
        return self._unit[self._layer(layer)].astype(np.float32)

    def project(
        self, pooled: Float[np.ndarray, "*batch L d"], layer: int | None = None
    ) -> Float[np.ndarray, "*batch L"] | Float[np.ndarray, "*batch"]:
        """Project pooled activations on the unit axis; higher is more Assistant-like (METHOD 2).

        Args:
            pooled: Pooled activations of all layers.
            layer: Layer to project at, or None for all.

        Raises:
            UsageError: If the shape does not fit the model, or the layer is not in the map.
        """
        pooled = np.asarray(pooled)
        if pooled.shape[-2:] != (self.n_layers, self.d_model):
            raise UsageError(
                f"activations of shape {pooled.shape} do not end in "
                f"({self.n_layers}, {self.d_model}), the layers and width of the map"
            )
        if layer is None:
            return np.einsum("...ld,ld->...l", pooled, self._unit)
        return pooled[..., self._layer(layer), :] @ self._unit[layer]

    def to_units(self, projection: Float[np.ndarray, "*batch"] | float, layer: int) -> Any:
        """Convert raw projections at a layer to positions: 0 is the mean role, 1 the default."""
        stats, layer = self.stats, self._layer(layer)
        return position(projection, stats.mean_projection[layer], stats.default_projection[layer])

    def units(self, layer: int) -> tuple[float, float]:
        """Return the raw projections of the mean role (position 0) and the default (1) at a layer.

        Raises:
            UsageError: If the layer is not in the map.
        """
        stats, layer = self.stats, self._layer(layer)
        return float(stats.mean_projection[layer]), float(stats.default_projection[layer])

    @cached_property
    def _role_quantiles(self) -> Float[np.ndarray, "L 9"]:
        return self._tensors.get("quantiles.role").astype(np.float64)

    def percentile(self, projection: Float[np.ndarray, "*batch"] | float, layer: int) -> Any:
        """Return the percentile of a projection among single responses in a role.

        The value is interpolated between the stored percentiles (1, 5, 10, 25, 50, 75, 90, 95, 99), and
        clipped to them: 1 means at most 1, and 99 at least 99.

        Args:
            projection: Mean projections of responses on the unit axis; NaN gives NaN.
            layer: Layer of the projections.

        Raises:
            UsageError: If the layer is not in the map.
        """
        found = np.interp(projection, self._role_quantiles[self._layer(layer)], self._record.percentiles)
        return float(found) if np.ndim(found) == 0 else found

    def check_model(
        self, *, model_id: str, revision: str, n_layers: int, d_model: int, chat_digest: str
    ) -> None:
        """Check that a model is the map's; the same files under another name count as the same model.

        Raises:
            StoreError: If something differs; the message names every difference.
        """
        self.model.identity.require_same(
            ModelIdentity(model_id, revision, n_layers, d_model, chat_digest),
            f"the map in {self.folder}",
            error=StoreError,
            hint="Load the model that the map was made with, or make a map of this one.",
        )


def position(projection: Any, mean_role: Any, default: Any) -> Any:
    """Convert raw projections on the axis to positions: mean role 0, default 1 (`PersonaMap.units`).

    The mean role and the default may be arrays, one value for each layer.
    """
    return (projection - mean_role) / (default - mean_role)
