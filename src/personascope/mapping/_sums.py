"""Sums of a run: how they lie on the disk, their merging by role, and reading them layer by layer.

A role's file holds one tensor [L, slots, d], a slot being a bucket and a fold. The sums that vectors are
made of are kept in all folds, "other" in one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from personascope.errors import StoreError
from personascope.mapping._design import DEFAULT, Design
from personascope.space import Bucket, FoldDesign
from personascope.store import RunFolder, TensorFile, TensorPart, TensorSpec

Slot = tuple[Bucket, int]

STORED_FOLDS: dict[Bucket, int | None] = {"fully": None, "plain": None, "somewhat": None, "other": 1}
"""Folds of each bucket on the disk; None for all of them."""

SHARDS = "roles"


Vectors = Literal["played", "rubric"]
"""Which responses role vectors are made of: of those with the score 3 those that played, or all."""


def slot_of(score: int | None, fold: int, played: bool | None = None) -> Slot:
    """Return where a response is summed.

    One without a score (default, no judge) counts as "fully"; so does one of which it is not known whether
    it played.
    """
    bucket: Bucket = "fully" if score is None or score == 3 else "somewhat" if score == 2 else "other"
    if bucket == "fully" and played is False:
        bucket = "plain"
    stored = STORED_FOLDS[bucket]
    return bucket, fold if stored is None else fold % stored


def pack_slots(counts: Mapping[Slot, int]) -> str:
    """Write slots and their counts as text, in their order."""
    return json.dumps([[bucket, fold, count] for (bucket, fold), count in counts.items()])


def unpack_slots(text: str) -> dict[Slot, int]:
    """Read what `pack_slots` wrote."""
    return {(bucket, fold): count for bucket, fold, count in json.loads(text)}


class Merger:
    """Moves the sums of a role from the units into one file, once all of them are committed.

    The merged file wins over what units still hold of the role, so a kill between the two steps
    loses nothing and counts nothing twice.
    """

    def __init__(self, folder: RunFolder, design: Design) -> None:
        """Remove what a killed process left of merged roles in the units."""
        self._folder = folder
        self._design = design
        self._groups: dict[int, list[int]] = {}
        for group in range(len(design.groups)):
            for unit in design.units_of(group):
                self._groups.setdefault(unit, []).append(group)
        self.merged: set[str] = folder.shards(SHARDS)
        for index in list(folder.units):
            self.after_commit(index)

    def after_commit(self, index: int) -> None:
        """Merge the roles that this unit completes, and drop sums that are no longer needed."""
        names = self._design.groups
        touched = {index}
        for group in self._groups[index]:
            units = self._design.units_of(group)
            if names[group] not in self.merged and self._complete(names[group], units):
                self._merge(names[group], units)
                touched.update(units)
        for unit in touched & set(self._folder.units):
            if all(names[group] in self.merged for group in self._groups[unit]):
                self._folder.drop_part(unit, "sums")

    def _complete(self, name: str, units: range) -> bool:
        found = self._folder.units
        return all(unit in found and not found[unit].meta["pending"].get(name) for unit in units)

    def _merge(self, name: str, units: range) -> None:
        part = merge_units(self._folder, name, units)
        self._folder.write_shard(SHARDS, name, part)
        self.merged.add(name)


def merge_units(folder: RunFolder, name: str, units: range) -> TensorPart:
    """Add up what the committed units hold of a role, in the order of the units.

    Raises:
        StoreError: If a unit's sums are missing or damaged.
    """
    files = _unit_files(folder, name, units)
    counts = _add_counts(files, name)
    places = {slot: place for place, slot in enumerate(counts)}
    total: np.ndarray | None = None
    for file in files:
        sums = file.read(name)
        if total is None:
            total = np.zeros((sums.shape[0], len(places), sums.shape[2]), np.float32)
        for place, slot in enumerate(unpack_slots(file.metadata[name])):
            total[:, places[slot]] += sums[:, place]
    if total is None:
        return TensorPart([], [], {name: pack_slots({})})
    return TensorPart([TensorSpec(name, "F32", total.shape)], [total], {name: pack_slots(counts)})


def _unit_files(folder: RunFolder, name: str, units: range) -> list[TensorFile]:
    parts: list[TensorFile] = []
    for unit in units:
        if unit not in folder.units:
            continue
        part = folder.part(unit, "sums")
        if part is None:
            # A unit gives its sums up once they are in the shards of its roles.
            raise StoreError(
                f"the sums of {name} are missing: neither {folder.path / SHARDS / name}.safetensors "
                f"nor {folder.units[unit].path / 'sums'}.safetensors is there",
                hint="copy the file back from where the run was made, or run again with --restart",
            )
        if name in part.metadata:
            parts.append(part)
    return parts


def _add_counts(files: list[TensorFile], name: str) -> dict[Slot, int]:
    counts: dict[Slot, int] = {}
    for file in files:
        for slot, count in unpack_slots(file.metadata[name]).items():
            counts[slot] = counts.get(slot, 0) + count
    return dict(sorted(counts.items()))


class RunSums:
    """The sums of a run folder, one layer in memory at a time (the protocol ``FoldSums``).

    Args:
        folder: The run folder.
        design: Its design.
        n_layers: Layers of the model.
        d_model: Width of its residual stream.
        vectors: "rubric" to count responses that did not play among the "fully" ones, as the paper's
            rubric has it.
    """

    def __init__(
        self, folder: RunFolder, design: Design, n_layers: int, d_model: int, *, vectors: Vectors = "played"
    ) -> None:
        """Read the counts; sums are read when they are asked for."""
        self._n_layers, self._d_model, self._n_folds = n_layers, d_model, design.n_folds
        self._design = design.fold_design
        self._as: dict[Bucket, Bucket] = {"plain": "fully"} if vectors == "rubric" else {}
        self._roles = tuple(sorted(role.name for role in design.roles))
        self._files: dict[str, list[TensorFile]] = {}
        self._counts: dict[str, dict[Slot, int]] = {}
        for group, name in enumerate(design.groups):
            shard = folder.shard(SHARDS, name)
            files = [shard] if shard else _unit_files(folder, name, design.units_of(group))
            if any(name not in file.metadata for file in files):
                raise StoreError(f"the sums of {name} in {folder.path} are damaged", hint="use --restart")
            self._files[name] = [file for file in files if name in file.specs]
            self._counts[name] = _add_counts(files, name)

    @property
    def fold_design(self) -> FoldDesign:
        """Which questions and which place among the prompts each fold stands for."""
        return self._design

    @property
    def roles(self) -> tuple[str, ...]:
        """Role names, sorted; the default is not among them."""
        return self._roles

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self._n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self._d_model

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return self._n_folds

    def counts(self, bucket: Bucket) -> Int64[np.ndarray, "roles folds"]:
        """Responses behind each sum of a bucket."""
        return np.stack([self._group_counts(name, bucket) for name in self._roles])

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """Responses behind each sum of the default."""
        return self._group_counts(DEFAULT, "fully")

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Sums of one bucket at one layer; folds that are not kept apart on disk are in the first ones."""
        sums = np.zeros((len(self._roles), self._n_folds, self._d_model), np.float32)
        for role, name in enumerate(self._roles):
            self._add_group(name, bucket, layer, sums[role])
        return sums

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Sums of the default at one layer."""
        sums = np.zeros((self._n_folds, self._d_model), np.float32)
        self._add_group(DEFAULT, "fully", layer, sums)
        return sums

    def _group_counts(self, name: str, bucket: Bucket) -> np.ndarray:
        counts = np.zeros(self._n_folds, np.int64)
        for (found, fold), count in self._counts[name].items():
            if self._as.get(found, found) == bucket:
                counts[fold] += count
        return counts

    def _add_group(self, name: str, bucket: Bucket, layer: int, sums: np.ndarray) -> None:
        if not any(self._as.get(found, found) == bucket for found, _ in self._counts[name]):
            return
        for file in self._files[name]:
            values = file.read(name, layer)
            for place, (found, fold) in enumerate(unpack_slots(file.metadata[name])):
                if self._as.get(found, found) == bucket:
                    sums[fold] += values[place]


def response_norms(folder: RunFolder) -> Float64[np.ndarray, "layers"]:
    """Return the mean norm of the pooled activations at each layer, over all responses of a run.

    Raises:
        StoreError: If no response was committed yet.
    """
    total: np.ndarray | None = None
    count = 0
    for index in sorted(folder.units):
        meta = folder.units[index].meta
        norms = np.array(meta["norm_sums"], np.float64)
        total = norms if total is None else total + norms
        count += meta["norm_count"]
    if total is None or not count:
        raise StoreError(f"{folder.path} holds no response with tokens", hint="run it to the end first")
    return total / count
