"""What is a comparison of a model with itself? Maps of two halves of a run's questions, compared.

Each half holds half of the questions of every prompt, so both have the same model, roles and prompts. They
differ by questions and responses alone. No other model can be expected to agree more.

    python benchmarks/compare_halves.py RUN [RUN ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from personascope import api
from personascope.mapping._sums import SHARDS, unpack_slots
from personascope.mapping._unit import UnitMeta
from personascope.space import FoldDesign, MapMeta, PersonaMap, Quantiles, build_space
from personascope.store import RunFolder


class Half:
    """Sums of the responses to every other question of each prompt (the protocol ``FoldSums``)."""

    def __init__(self, run: RunFolder, found: PersonaMap, layer: int, half: int) -> None:
        """Read the sums at one layer."""
        assert found.checks is not None
        profile = found.checks.profile
        prompts, questions = int(profile["prompts"]), int(profile["questions"])
        folds = [fold for fold in range(questions) if fold // prompts % 2 == half]
        self.fold_design = FoldDesign(tuple(folds), tuple(fold % prompts for fold in folds))
        self.roles = tuple(sorted(set(run.shards(SHARDS)) - {"default"}))
        self.n_folds, self.n_layers, self.d_model = len(folds), 1, found.d_model
        kept = {"fully"} | ({"plain"} if found.checks.vectors == "rubric" else set())
        self._counts: dict[str, np.ndarray] = {}
        self._sums: dict[str, np.ndarray] = {}
        for name in (*self.roles, "default"):
            shard = run.shard(SHARDS, name)
            counts, sums = np.zeros(questions, np.int64), np.zeros((questions, found.d_model), np.float32)
            if shard is not None and name in shard.specs:
                values = shard.read(name, layer)
                for place, ((bucket, fold), count) in enumerate(unpack_slots(shard.metadata[name]).items()):
                    if bucket in kept:
                        counts[fold] += count
                        sums[fold] += values[place]
            self._counts[name], self._sums[name] = counts[folds], sums[folds]

    def counts(self, bucket: str) -> np.ndarray:
        """Responses behind each sum."""
        found = np.stack([self._counts[name] for name in self.roles])
        return found if bucket == "fully" else np.zeros_like(found)

    def default_counts(self) -> np.ndarray:
        """Responses of the default."""
        return self._counts["default"]

    def sums(self, bucket: str, _layer: int) -> np.ndarray:
        """Sums of the roles."""
        found = np.stack([self._sums[name] for name in self.roles])
        return found if bucket == "fully" else np.zeros_like(found)

    def default_sums(self, _layer: int) -> np.ndarray:
        """Sums of the default."""
        return self._sums["default"]


def half_map(run: Path, half: int, folder: Path, layer: int | None = None) -> Path:
    """Write the map of one half of a run at a layer, by default the run's middle one; return its folder."""
    found = PersonaMap.open(run)
    least = max(1, found.minimums[0] // 2)
    at = found.middle_layer if layer is None else layer
    sums = Half(RunFolder.read(run, unit=UnitMeta), found, at, half)
    space = build_space(sums, min_fully=least, min_somewhat=least, n_boot=5, n_splits=3)
    record = found.model.record | {"n_layers": 1}
    unknown = Quantiles(np.zeros((1, 9)), np.zeros((1, 9)))
    meta = MapMeta(type(found.model)(**record), found.corpus_digest, found.versions, "", np.ones(1), unknown)
    PersonaMap.save(folder, space, meta)
    return folder


def main(runs: list[str]) -> None:
    print("| run | roles | figure | value | 95% | null, 95% | p |\n|---|---|---|---|---|---|---|")
    for run in map(Path, runs):
        with tempfile.TemporaryDirectory() as folder:
            halves = [half_map(run, half, Path(folder) / f"half{half}") for half in (0, 1)]
            (pair,) = api.compare(halves).pairs
        for row in pair.between:
            one = row.figure
            print(
                f"| {run.name} | {len(pair.roles)} | {row.group}: {row.name} | {one.value:.2f} | "
                f"{one.low:.2f} to {one.high:.2f} | {one.null_q95:.2f} | {one.p_value:.4f} |"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
