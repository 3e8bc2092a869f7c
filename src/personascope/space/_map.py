"""The PersonaMap: the one artefact, a folder that is opened without being read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open

from personascope.errors import StoreError, UsageError
from personascope.space._checks import MapChecks, RolePlay
from personascope.space._meta import MapMeta, MapModel, Quantiles
from personascope.space._save import FORMAT, MAP, MAP_JSON, TENSORS, write_map
from personascope.space._space import Space, SpaceStats
from personascope.space._verdict import Verdict, verdict_at

FIRST_DESIGN = "fixed questions, one prompt a role (1)"
"""What maps say of which nothing is recorded."""

REMAKE = "Make the map again, or copy the whole folder again from where it came from."


class PersonaMap:
    """A model's persona space and Assistant Axis on disk.

    Layers are 0-based: layer l is the residual stream after block l. The axis points toward the
    Assistant. Nothing but ``map.json`` is read until it is asked for, and then only what was
    asked for. Use ``PersonaMap.open``.
    """

    def __init__(self, folder: Path, record: dict[str, Any], tensors: Any) -> None:
        """Hold an opened folder; ``open`` checks it first."""
        self.folder = folder
        self._record = record
        self._tensors = tensors

    @staticmethod
    def save(folder: Path | str, space: Space, meta: MapMeta) -> None:
        """Write a map, whole or not at all; an earlier map in the folder is replaced.

        Raises:
            StoreError: The disk is full, the folder cannot be written, or it holds something
                that is not a map.
            SpaceError: The metadata does not fit the space.
        """
        write_map(Path(folder), space, meta)

    @classmethod
    def open(cls, folder: Path | str) -> PersonaMap:
        """Open a map; reads ``map.json`` and the header of ``map.safetensors``.

        Args:
            folder: The map's folder, or the run folder that holds it as ``map``.

        Raises:
            StoreError: A file is missing, truncated, damaged, or of another format version.
        """
        folder = Path(folder)
        if (folder / MAP).is_dir():
            folder = folder / MAP
        path, tensors_path = folder / MAP_JSON, folder / TENSORS
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{path} does not exist: {folder} is not a map", hint=REMAKE) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}", hint=REMAKE) from error
        if not isinstance(record, dict) or "format" not in record:
            raise StoreError(f"{path} is not the record of a map", hint=REMAKE)
        if record["format"] != FORMAT:
            raise StoreError(
                f"{path} has map format {record['format']!r}; this version reads {FORMAT}",
                hint="Open it with the personascope that made it, or make the map again.",
            )
        missing = [key for key in _KEYS if key not in record]
        if missing:
            raise StoreError(f"{path} lacks {', '.join(missing)}", hint=REMAKE)
        try:
            handle: Any = safe_open(tensors_path, framework="numpy")
            names, pair = set(handle.keys()), (handle.metadata() or {}).get("pair")
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{tensors_path} cannot be read: {error}", hint=REMAKE) from error
        if pair != record["pair"]:
            raise StoreError(f"{tensors_path} and {MAP_JSON} are of different maps", hint=REMAKE)
        lost = sorted(set(record["tensors"]) - names)
        if lost:
            raise StoreError(f"{tensors_path} lacks {', '.join(lost)}", hint=REMAKE)
        opened = cls(folder, record, handle)
        try:
            MapModel(**record["model"])
        except TypeError as error:
            raise StoreError(f"the model in {path} is damaged: {error}", hint=REMAKE) from error
        return opened

    def verify(self) -> None:
        """Read all bytes of the tensors and compare them with the digest in ``map.json``.

        Raises:
            StoreError: They differ.
        """
        path = self.folder / TENSORS
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self._record["sha256"]:
            raise StoreError(f"{path} has changed since it was written", hint=REMAKE)

    def _get(self, name: str) -> np.ndarray:
        return self._tensors.get_tensor(name)

    def _layer(self, layer: int) -> int:
        if not 0 <= layer < self.n_layers:
            raise UsageError(f"layer {layer} is not in the map", hint=f"Choose 0 to {self.n_layers - 1}.")
        return layer

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the R roles with a vector, in the order of every array over roles."""
        return tuple(self._record["roles"])

    @property
    def somewhat(self) -> tuple[str, ...]:
        """Names of the S roles with a "somewhat" vector."""
        return tuple(self._record["somewhat"])

    @property
    def excluded(self) -> dict[str, int]:
        """Roles with too few "fully" responses, and how many they had."""
        return dict(self._record["excluded"])

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Responses of every role and of "default": fully, somewhat, other, unscored, empty."""
        return {name: dict(row) for name, row in self._record["counts"].items()}

    @property
    def model(self) -> MapModel:
        """The model that the map was made with."""
        return MapModel(**self._record["model"])

    @property
    def n_layers(self) -> int:
        """Number of layers, L."""
        return int(self._record["model"]["n_layers"])

    @property
    def d_model(self) -> int:
        """Width of the residual stream, d."""
        return int(self._record["model"]["d_model"])

    @property
    def middle_layer(self) -> int:
        """The layer of loadings and intervals, and the default layer of projections."""
        return int(self._record["middle_layer"])

    @property
    def minimums(self) -> tuple[int, int]:
        """Responses that a "fully" and a "somewhat" vector needed."""
        return int(self._record["min_fully"]), int(self._record["min_somewhat"])

    @property
    def corpus_digest(self) -> str:
        """Digest of the corpus of roles and questions."""
        return str(self._record["corpus_digest"])

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the map's tensors: two maps with the same one are the same map."""
        return str(self._record["sha256"])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that made the map."""
        return dict(self._record["versions"])

    @property
    def command(self) -> str:
        """The command that made the map."""
        return str(self._record["command"])

    @cached_property
    def axis(self) -> Float32[np.ndarray, "L d"]:
        """The Assistant Axis, not scaled (METHOD 2)."""
        return self._get("axis")

    @cached_property
    def _unit(self) -> Float[np.ndarray, "L d"]:
        axis = self.axis.astype(np.float64)
        return axis / np.linalg.norm(axis, axis=1, keepdims=True)

    @property
    def default_vector(self) -> Float32[np.ndarray, "L d"]:
        """Mean activation of the default's responses."""
        return self._get("default_vector")

    @property
    def response_norms(self) -> Float[np.ndarray, "L"]:
        """Mean norm of the residual stream over response tokens."""
        return self._get("response_norms")

    @property
    def quantiles(self) -> Quantiles:
        """Percentiles of single responses' projections on the unit axis."""
        return Quantiles(
            self._get("quantiles.role"),
            self._get("quantiles.default"),
            tuple(self._record["percentiles"]),
        )

    @cached_property
    def stats(self) -> SpaceStats:
        """Cosines, positions, variance and their uncertainty."""
        return SpaceStats(**{f.name: self._stat(f.name) for f in dataclasses.fields(SpaceStats)})

    def _stat(self, name: str) -> Any:
        if f"stats.{name}" in self._record["tensors"]:
            return self._get(f"stats.{name}")
        if name in self._record["stats"]:
            return self._record["stats"][name]
        # A map of an earlier version: the figure was not computed then.
        return np.full((self.n_layers, 2) if name.endswith("_interval") else self.n_layers, np.nan)

    @cached_property
    def checks(self) -> MapChecks | None:
        """What the run checked of itself; None for a map of the first design, which checked nothing.

        Raises:
            StoreError: The record is damaged.
        """
        record = self._record.get("checks")
        if record is None:
            return None
        try:
            kept = {name: value for name, value in record.items() if name != "nuisances"}
            roles = {name: RolePlay(**role) for name, role in kept.pop("roles").items()}
            return MapChecks(**kept, roles=roles, correlations=self._get("checks.correlations"))
        except (TypeError, KeyError, AttributeError, SafetensorError) as error:
            raise StoreError(
                f"the checks in {self.folder / MAP_JSON} are damaged: {error}", hint=REMAKE
            ) from error

    @property
    def design(self) -> str:
        """By which design the map was made."""
        return FIRST_DESIGN if self.checks is None else self.checks.design

    def verdict(self, layer: int | None = None) -> Verdict:
        """Say whether there is an axis, whether it is the main component, and where the default stands.

        Args:
            layer: The layer; the middle one if not given.

        Raises:
            UsageError: The layer is not in the map.
        """
        return verdict_at(self.stats, self.checks, self._layer(self.middle_layer if layer is None else layer))

    def __repr__(self) -> str:
        """Say on a few lines what the map is, the verdict first."""
        found = self.verdict()
        return (
            f"PersonaMap of {self.model.id}: {found.headline}\n"
            f"  layer {self.middle_layer} of {self.n_layers}, {len(self.roles)} roles, {self.design}, "
            f"in {self.folder}"
        )

    def role_vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Mean activation of a role's "fully" responses.

        Raises:
            UsageError: The map has no vector of that role.
        """
        return self._tensors.get_slice("role_vectors")[:, self._index(name, self.roles)]

    def somewhat_vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Mean activation of a role's "somewhat" responses.

        Raises:
            UsageError: The map has no such vector of that role.
        """
        return self._tensors.get_slice("somewhat_vectors")[:, self._index(name, self.somewhat)]

    def _index(self, name: str, names: tuple[str, ...]) -> int:
        if name not in names:
            counted = self.counts.get(name)
            why = f"it has too few responses ({counted})" if counted else "it is not a role of the corpus"
            raise UsageError(f"the map has no such vector of {name!r}: {why}")
        return names.index(name)

    def role_vectors(self, layer: int) -> Float32[np.ndarray, "R d"]:
        """All "fully" vectors at one layer."""
        return self._tensors.get_slice("role_vectors")[self._layer(layer)]

    def components(self, layer: int) -> Float32[np.ndarray, "K d"]:
        """Unit principal components at one layer."""
        return self._tensors.get_slice("components")[self._layer(layer)]

    def mean(self, layer: int) -> Float32[np.ndarray, "d"]:
        """Mean of all vectors of the PCA at one layer."""
        return self._tensors.get_slice("mean")[self._layer(layer)]

    def unit_axis(self, layer: int) -> Float32[np.ndarray, "d"]:
        """The axis of one layer at length 1."""
        return self._unit[self._layer(layer)].astype(np.float32)

    def project(
        self, pooled: Float[np.ndarray, "*batch L d"], layer: int | None = None
    ) -> Float[np.ndarray, "*batch L"] | Float[np.ndarray, "*batch"]:
        """Project pooled activations on the unit axis; higher is more Assistant-like (METHOD 2).

        Args:
            pooled: Activations of all layers.
            layer: One layer, or None for all.

        Raises:
            UsageError: The shape is not of this model, or the layer not in the map.
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
        """Rescale projections at a layer: 0 is the mean role, 1 the default."""
        stats, layer = self.stats, self._layer(layer)
        zero, one = stats.mean_projection[layer], stats.default_projection[layer]
        return (projection - zero) / (one - zero)

    @cached_property
    def _role_quantiles(self) -> Float[np.ndarray, "L 9"]:
        return self._get("quantiles.role").astype(np.float64)

    def percentile(self, projection: Float[np.ndarray, "*batch"] | float, layer: int) -> Any:
        """Return the percentage of single responses in a role whose projection lies below.

        Between the stored percentiles (1, 5, 10, 25, 50, 75, 90, 95, 99) it is interpolated. Outside
        of them nothing is known: 1 means at most 1, and 99 at least 99.

        Args:
            projection: Mean projections of responses on the unit axis; NaN gives NaN.
            layer: Their layer.

        Raises:
            UsageError: The layer is not in the map.
        """
        found = np.interp(projection, self._role_quantiles[self._layer(layer)], self._record["percentiles"])
        return float(found) if np.ndim(found) == 0 else found

    def check_model(
        self, *, model_id: str, revision: str, n_layers: int, d_model: int, chat_digest: str
    ) -> None:
        """Refuse another model than the map's.

        Raises:
            StoreError: Something differs; every difference is named.
        """
        mine = self.model
        pairs = {
            "model": (mine.id, model_id),
            "revision": (mine.revision, revision),
            "number of layers": (mine.n_layers, n_layers),
            "width": (mine.d_model, d_model),
            "chat template": (mine.chat_digest, chat_digest),
        }
        wrong = [f"{what}: {a!r} in the map, {b!r} now" for what, (a, b) in pairs.items() if a != b]
        if wrong:
            raise StoreError(
                f"the map in {self.folder} is of another model ({'; '.join(wrong)})",
                hint="Load the model that the map was made with, or make a map of this one.",
            )


_KEYS = (
    "pair",
    "sha256",
    "tensors",
    "roles",
    "somewhat",
    "excluded",
    "counts",
    "model",
    "middle_layer",
    "min_fully",
    "min_somewhat",
    "corpus_digest",
    "versions",
    "command",
    "percentiles",
    "stats",
)
