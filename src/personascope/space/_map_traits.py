"""The traits of a map: vectors, cosines and quantiles in a folder of their own inside the map's folder.

A map's own files never change when traits are added, so the digest stays by which plans and monitors know it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32
from pydantic import Field

from personascope.errors import StoreError, UsageError
from personascope.space._record import tensor_digests
from personascope.space._save import arrays_digest, write_folder
from personascope.space._tensors import MapTensors
from personascope.space._trait_space import TraitSpace
from personascope.store import Record, read_record, remove, short

FORMAT = 1
TRAITS = "traits"
"""Name of the folder in a map's folder that holds one folder for each set of traits."""
TRAITS_JSON = "traits.json"
TRAITS_TENSORS = "traits.safetensors"
AGAIN = "run personascope traits again on the run folder"

_ARRAYS = tuple(field.name for field in dataclasses.fields(TraitSpace) if "ndarray" in str(field.type))
_DIMENSIONS = {
    field.name: str(field.type).split("'" if "'" in str(field.type) else '"')[1].split()
    for field in dataclasses.fields(TraitSpace)
    if "ndarray" in str(field.type)
} | {"quantiles": ["L", "Q"]}


@dataclass(frozen=True, slots=True)
class Population:
    """Responses behind the calibration quantiles of a set of traits.

    Attributes:
        name: "roles and traits", or "traits" if the map's own responses are not at hand.
        responses: Kind ("role", "trait") -> number of responses that the sample stands for.
        sample: Kind -> number of responses in the sample. Each stands for as many as its kind has for one.
    """

    name: Literal["roles and traits", "traits"]
    responses: dict[str, int]
    sample: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class TraitMeta:
    """What is recorded of a trait run beside its numbers.

    Attributes:
        map_digest: Digest of the map whose axis was taken.
        groups: Trait -> its group; "" if unknown.
        pairs: Trait -> what became of a pair -> number of pairs.
        points: Trait -> mean score of its positive and of its negative responses, or None without a judge.
        min_difference: Minimum difference of a pair's scores; None without a judge, where every pair is kept
            and a vector is a difference without a score.
        judges: Judge -> number of its scores; empty without a judge.
        refused: Number of responses that declined to answer.
        unscored: Number of responses without a score.
        profile: Name and sizes of the run.
        digest: Digest of the design: texts, profile and seed.
        quantiles: Percentiles of single responses' projections on the unit axis.
        percentiles: Which percentiles.
        population: Responses that the quantiles are of.
        versions: Versions of the software.
        command: Command line.
    """

    map_digest: str
    groups: Mapping[str, str]
    pairs: Mapping[str, Mapping[str, int]]
    points: Mapping[str, tuple[float, float] | None]
    min_difference: int | None
    judges: Mapping[str, int]
    refused: int
    unscored: int
    profile: Mapping[str, Any]
    digest: str
    quantiles: Float[np.ndarray, "L Q"]
    percentiles: tuple[int, ...]
    population: Population
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    command: str = ""


class _Profile(Record):
    name: str
    seed: int
    prompts: int | None
    questions: int
    max_new_tokens: int
    own_questions: bool


class TraitRecord(Record):
    """Fields of ``traits.json``."""

    pair: str
    sha256: str
    tensors: list[str]
    digests: dict[str, str | list[str]]
    map: str
    traits: list[str] = Field(min_length=1)
    groups: dict[str, str]
    pairs: dict[str, dict[str, int]]
    points: dict[str, tuple[float, float] | None]
    excluded: dict[str, int]
    min_pairs: int
    min_difference: int | None
    n_layers: int
    d_model: int
    judges: dict[str, int]
    refused: int
    unscored: int
    profile: _Profile
    design: str
    percentiles: list[int] = Field(min_length=1)
    population: Population
    n_draws: int
    seed: int
    versions: dict[str, str]
    command: str

    def wrong(self, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Yield what is inconsistent between the fields and the tensors."""
        if len(set(self.traits)) < len(self.traits):
            yield "the field 'traits' names a trait twice"
        for key in ("groups", "pairs", "points"):
            if lost := sorted(set(self.traits) - set(getattr(self, key))):
                yield f"the field {key!r} lacks the trait {short(lost[0])}"
        if lost := sorted({*_DIMENSIONS} - set(shapes)):
            yield f"the tensors {', '.join(lost)} are missing"
            return
        if lost := sorted({*_DIMENSIONS} - set(self.digests)):
            yield f"the field 'digests' lacks {', '.join(lost)}"
        sizes = {"L": self.n_layers, "d": self.d_model, "T": len(self.traits), "Q": len(self.percentiles)}
        for name, symbols in _DIMENSIONS.items():
            shape = shapes[name]
            wanted = tuple(
                int(one) if one.isdigit() else sizes.setdefault(one, size)
                for one, size in zip(symbols, shape, strict=False)
            )
            if len(symbols) != len(shape) or wanted != shape:
                yield f"the tensor {name} has shape {list(shape)}, which does not fit the fields"


def save_traits(map_folder: Path, name: str, space: TraitSpace, meta: TraitMeta) -> Path:
    """Write a set of traits into a map's folder, whole or not at all; replace an earlier set of that name.

    Returns:
        Path of the set's folder.

    Raises:
        StoreError: If it cannot be written; an earlier set is left untouched.
    """
    folder = map_folder / TRAITS / name
    arrays = {key: np.ascontiguousarray(getattr(space, key)) for key in _ARRAYS}
    arrays["quantiles"] = np.ascontiguousarray(meta.quantiles)
    record: dict[str, Any] = {
        "format": FORMAT,
        "pair": arrays_digest(arrays),
        "tensors": sorted(arrays),
        "digests": tensor_digests(arrays),
        "map": meta.map_digest,
        "traits": list(space.traits),
        "groups": dict(meta.groups),
        "pairs": {trait: dict(row) for trait, row in meta.pairs.items()},
        "points": {trait: None if row is None else list(row) for trait, row in meta.points.items()},
        "excluded": space.excluded,
        "min_pairs": space.min_pairs,
        "min_difference": meta.min_difference,
        "n_layers": space.vectors.shape[0],
        "d_model": space.vectors.shape[2],
        "judges": dict(meta.judges),
        "refused": meta.refused,
        "unscored": meta.unscored,
        "profile": dict(meta.profile),
        "design": meta.digest,
        "percentiles": list(meta.percentiles),
        "population": dataclasses.asdict(meta.population),
        "n_draws": space.n_draws,
        "seed": space.seed,
        "versions": dict(meta.versions),
        "command": meta.command,
    }
    for left in folder.parent.glob(f"{name}.tmp-*"):
        # What a killed process left; the trait run's lock keeps others out.
        remove(left)
    write_folder(folder, arrays, record, names=(TRAITS_JSON, TRAITS_TENSORS), what="traits")
    return folder


@dataclass(frozen=True, slots=True)
class TraitPlace:
    """A trait's place on the axis at one layer.

    Attributes:
        name: Name of the trait.
        group: Group of the trait; "" if unknown.
        cosine: Cosine of its vector with the axis; positive toward the Assistant.
        low: Lower end of the 95% interval; NaN without one.
        high: Upper end of the interval.
        null: 95% quantile of |cosine| with the trait's poles permuted; NaN without one.
        reliability: Share of the vector that is not noise; NaN if unknown.
        kept: Number of kept pairs.
        pairs: Number of all pairs.
        points: Mean score of the positive and of the negative responses; None without a judge.
    """

    name: str
    group: str
    cosine: float
    low: float
    high: float
    null: float
    reliability: float
    kept: int
    pairs: int
    points: tuple[float, float] | None


class MapTraits:
    """A set of traits of a map, read lazily; get it from ``PersonaMap.traits``.

    Attributes:
        name: Name of the set.
        folder: Folder of the set.
    """

    def __init__(self, name: str, folder: Path, record: TraitRecord, tensors: MapTensors) -> None:
        """Wrap an opened and checked folder; use `open_traits` instead."""
        self.name = name
        self.folder = folder
        self.record = record
        self._tensors = tensors

    @property
    def traits(self) -> tuple[str, ...]:
        """Names of the T traits with a vector, in the order of every array over traits."""
        return tuple(self.record.traits)

    @property
    def excluded(self) -> dict[str, int]:
        """Trait -> number of kept pairs, for traits with too few for a vector."""
        return dict(self.record.excluded)

    @property
    def min_difference(self) -> int | None:
        """Minimum difference of a pair's scores; None if the vectors are differences without a score."""
        return self.record.min_difference

    @property
    def population(self) -> Population:
        """Responses that the quantiles are of."""
        return self.record.population

    @cached_property
    def space(self) -> TraitSpace:
        """All numbers of the set.

        Raises:
            StoreError: If a tensor was changed since it was written.
        """
        record = self.record
        arrays = {name: self._tensors.get(name) for name in _ARRAYS}
        return TraitSpace(self.traits, self.excluded, record.min_pairs, record.seed, record.n_draws, **arrays)

    @property
    def quantiles(self) -> Float[np.ndarray, "L Q"]:
        """Percentiles of single responses' projections on the unit axis, over ``population``."""
        return self._tensors.get("quantiles")

    def vector(self, name: str) -> Float32[np.ndarray, "L d"]:
        """Return a trait's vector: the mean of positive minus negative responses.

        Raises:
            UsageError: If the set has no vector of that trait.
        """
        if name not in self.traits:
            few = self.excluded.get(name)
            why = "it is not in the set" if few is None else f"only {few} of its pairs were kept"
            raise UsageError(f"the traits {self.name!r} have no vector of {name!r}: {why}")
        return self._tensors.vector("vectors", self.traits.index(name))

    def places(self, layer: int) -> list[TraitPlace]:
        """Return the traits' places at a layer, from the Assistant's end of the axis to the other.

        Raises:
            UsageError: If the layer is not in the map.
        """
        if not 0 <= layer < self.record.n_layers:
            raise UsageError(
                f"layer {layer} is not in the map", hint=f"Choose 0 to {self.record.n_layers - 1}."
            )
        cosines, interval = self._tensors.get("cosines"), self._tensors.get("cosine_interval")
        null, reliability = self._tensors.get("null_q95"), self._tensors.get("reliability")
        found = [
            TraitPlace(
                name,
                self.record.groups[name],
                float(cosines[layer, index]),
                float(interval[layer, index, 0]),
                float(interval[layer, index, 1]),
                float(null[layer, index]),
                float(reliability[layer, index]),
                self.record.pairs[name].get("kept", 0),
                sum(self.record.pairs[name].values()),
                self.record.points[name],
            )
            for index, name in enumerate(self.traits)
        ]
        return sorted(found, key=lambda place: (-place.cosine, place.name))

    def mixed_q95(self, layer: int) -> float:
        """Return the 95% quantile of |cosine| of pseudo-traits; NaN for fewer than 8 traits."""
        return float(self._tensors.get("mixed_q95")[layer])


def open_traits(folder: Path) -> MapTraits:
    """Open a set of traits.

    Raises:
        StoreError: If a file is missing, damaged, changed, or of another format version.
    """
    path = folder / TRAITS_JSON
    record = read_record(path, TraitRecord, hint=AGAIN, format=FORMAT)
    tensors = MapTensors(folder / TRAITS_TENSORS)
    if tensors.pair != record.pair:
        raise StoreError(f"{folder / TRAITS_TENSORS} and {path} are of different runs", hint=AGAIN)
    for wrong in record.wrong(tensors.shapes):
        raise StoreError(f"{path}: {wrong}", hint=AGAIN)
    tensors.digests = record.digests
    return MapTraits(folder.name, folder, record, tensors)


def traits_of_map(map_folder: Path, map_digest: str) -> tuple[tuple[MapTraits, ...], tuple[str, ...]]:
    """Return the sets of traits of a map, sorted by name, and the names of sets of an earlier map there.

    Raises:
        StoreError: If a set is damaged.
    """
    inside = map_folder / TRAITS
    folders = sorted(inside.iterdir()) if inside.is_dir() else []
    found = [open_traits(folder) for folder in folders if (folder / TRAITS_JSON).exists()]
    return (
        tuple(one for one in found if one.record.map == map_digest),
        tuple(one.name for one in found if one.record.map != map_digest),
    )
