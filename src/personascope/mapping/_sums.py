"""Activation sums of a run: their storage, merging by role, and reading layer by layer.

A role's file holds one tensor [L, slots, d], where a slot is a bucket and a fold. Buckets that vectors are
built from are stored in all folds, "other" in one.
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
"""Number of stored folds per bucket; None for all folds."""

SHARDS = "roles"


Vectors = Literal["played", "rubric"]
"""Responses in role vectors: of those with score 3, those that played their role, or all."""


def slot_of(score: int | None, fold: int, played: bool | None = None) -> Slot:
    """Return the slot in which a response is summed.

    A response without a score (default, no judge) counts as score 3, and a response with unknown ``played``
    as played.
    """
    bucket: Bucket = "fully" if score is None or score == 3 else "somewhat" if score == 2 else "other"
    if bucket == "fully" and played is False:
        bucket = "plain"
    stored = STORED_FOLDS[bucket]
    return bucket, fold if stored is None else fold % stored


def pack_slots(counts: Mapping[Slot, int]) -> str:
    """Serialise slots and their counts as JSON text, in order."""
    return json.dumps([[bucket, fold, count] for (bucket, fold), count in counts.items()])


def unpack_slots(text: str) -> dict[Slot, int]:
    """Parse the text of `pack_slots`."""
    return {(bucket, fold): count for bucket, fold, count in json.loads(text)}


class Merger:
    """Merge the sums of a role from its units into one file, once all these units are committed.

    The merged file takes precedence over sums that are still in units, so an interruption between the two
    steps neither loses nor double-counts anything.
    """

    def __init__(self, folder: RunFolder, design: Design) -> None:
        """Finish merges that an interrupted process left, and drop units' sums that are no longer needed."""
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
        """Merge the roles that this unit completes, and drop units' sums that are no longer needed."""
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
    """Add up the sums of a role over its committed units, in the order of the units.

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


def _unit_files(
    folder: RunFolder, name: str, units: range, opened: dict[int, TensorFile | None] | None = None
) -> list[TensorFile]:
    parts: list[TensorFile] = []
    opened = {} if opened is None else opened
    for unit in units:
        if unit not in folder.units:
            continue
        if unit not in opened:
            opened[unit] = folder.part(unit, "sums")
        part = opened[unit]
        if part is None:
            # A unit's sums are dropped only after they are merged into its roles' files, so this is damage.
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
    """The sums of a run folder, with one layer in memory at a time (implements ``FoldSums``).

    Args:
        folder: Run folder.
        design: Design of the run.
        n_layers: Number of layers of the model.
        d_model: Width of the residual stream.
        vectors: "rubric" includes score-3 responses that did not play in the bucket "fully", as the paper's
            rubric does; "played" leaves them out.
    """

    def __init__(
        self, folder: RunFolder, design: Design, n_layers: int, d_model: int, *, vectors: Vectors = "played"
    ) -> None:
        """Read the counts; sums are read on demand."""
        self._n_layers, self._d_model, self._n_folds = n_layers, d_model, design.n_folds
        self._design = design.fold_design
        self._as: dict[Bucket, Bucket] = {"plain": "fully"} if vectors == "rubric" else {}
        self._roles = tuple(sorted(role.name for role in design.roles))
        self._files: dict[str, list[TensorFile]] = {}
        self._counts: dict[str, dict[Slot, int]] = {}
        opened: dict[int, TensorFile | None] = {}
        for group, name in enumerate(design.groups):
            shard = folder.shard(SHARDS, name)
            files = [shard] if shard else _unit_files(folder, name, design.units_of(group), opened)
            if any(name not in file.metadata for file in files):
                raise StoreError(f"the sums of {name} in {folder.path} are damaged", hint="use --restart")
            self._files[name] = [file for file in files if name in file.specs]
            self._counts[name] = _add_counts(files, name)

    @property
    def fold_design(self) -> FoldDesign:
        """The block of questions and the prompt slot of each fold."""
        return self._design

    @property
    def roles(self) -> tuple[str, ...]:
        """Sorted role names, without the default."""
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
        """Return the number of responses in each sum of a bucket."""
        return np.stack([self._group_counts(name, bucket) for name in self._roles])

    def default_counts(self) -> Int64[np.ndarray, "folds"]:
        """Return the number of responses in each sum of the default."""
        return self._group_counts(DEFAULT, "fully")

    def sums(self, bucket: Bucket, layer: int) -> Float32[np.ndarray, "roles folds d"]:
        """Return one bucket's sums at one layer; a bucket stored in fewer folds fills the first ones."""
        sums = np.zeros((len(self._roles), self._n_folds, self._d_model), np.float32)
        for role, name in enumerate(self._roles):
            self._add_group(name, bucket, layer, sums[role])
        return sums

    def default_sums(self, layer: int) -> Float32[np.ndarray, "folds d"]:
        """Return the sums of the default at one layer."""
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
        StoreError: If no response with tokens is committed yet.
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
