"""Maps of the responses that played, of all, and of as many chosen at random: is it the half, or which half?

Reads committed runs of which every fold of a role holds one response (`standard`), and makes of each: the map
of the responses that played, that of all with the score 3, and maps of as many responses as played, drawn at
random once from each role's own (so that each role keeps its number) and once from all.

    python benchmarks/played.py RUN [RUN ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from personascope.corpus import load_corpus
from personascope.engines import EngineInfo
from personascope.mapping import RunSums, plan_run, resolve_profile
from personascope.space import Bucket, build_space
from personascope.store import RunFolder

DRAWS = 2


class Chosen:
    """Sums of some of the responses of a run; of each role those in the folds that are kept."""

    def __init__(self, sums: RunSums, keep: np.ndarray) -> None:
        """Keep some folds [R, F] of the "fully" responses."""
        self._sums, self._keep = sums, keep
        self.roles, self.n_layers, self.d_model = sums.roles, sums.n_layers, sums.d_model
        self.n_folds, self.fold_design = sums.n_folds, sums.fold_design
        self.default_counts, self.default_sums = sums.default_counts, sums.default_sums

    def counts(self, bucket: Bucket) -> np.ndarray:
        """Responses behind each sum of a bucket."""
        counts = self._sums.counts(bucket)
        return counts * self._keep if bucket == "fully" else counts

    def sums(self, bucket: Bucket, layer: int) -> np.ndarray:
        """Sums of one bucket at one layer."""
        sums = self._sums.sums(bucket, layer)
        return sums * self._keep[:, :, None] if bucket == "fully" else sums


def main(path: Path) -> None:
    """Print a row for each map of one run."""
    folder = RunFolder.read(path)
    identity = folder.manifest["identity"]
    model, profile = identity["model"], identity["profile"]
    # Of the engine's description, the design reads these three.
    info = SimpleNamespace(n_layers=model["n_layers"], d_model=model["d_model"], model_id=model["model_id"])
    design = plan_run(
        cast(EngineInfo, info),
        load_corpus(),
        resolve_profile(profile["name"], max_new_tokens=profile["max_new_tokens"]),
        seed=identity["seed"],
        model_name=identity["model_name"],
    )
    if design.digest != identity["design"]:
        sys.exit(f"{path} is a run of another design or corpus")
    shape = (info.n_layers, info.d_model)
    every = RunSums(folder, design, *shape, vectors="rubric")
    counts = every.counts("fully")
    played = RunSums(folder, design, *shape, vectors="played").counts("fully")
    if counts.max() > 1:
        sys.exit(f"{path} holds several responses in a fold")

    def row(name: str, sums: Any) -> None:
        space = build_space(sums, min_fully=design.profile.min_fully, seed=design.seed)
        stats, layer = space.stats, space.middle_layer
        low, high = stats.role_reliability_interval[layer]
        print(
            f"| {path.name} | {name} | {int(sums.counts('fully').sum())} | {len(space.roles)} | {layer} "
            f"| {stats.cos_axis_pc1[layer]:.2f} | {stats.null_q95[layer]:.2f} "
            f"| {stats.split_half[layer]:.2f} | {stats.prompt_reliability[layer]:.0%} "
            f"| {stats.role_reliability[layer]:.0%} ({low:.0%} to {high:.0%}) "
            f"| {stats.default_percentile[layer, 0]:.0%} |",
            flush=True,
        )

    row("all with the score 3", every)
    row("played", Chosen(every, played > 0))
    rng = np.random.default_rng(100)
    for _ in range(DRAWS):
        within = np.zeros_like(counts, bool)
        for role, number in enumerate(played.sum(axis=1)):
            within[role, rng.choice(np.flatnonzero(counts[role]), int(number), replace=False)] = True
        row("as many, at random within each role", Chosen(every, within))
        places = np.argwhere(counts > 0)
        anywhere = np.zeros_like(counts, bool)
        anywhere[tuple(places[rng.choice(len(places), int(played.sum()), replace=False)].T)] = True
        row("as many, at random", Chosen(every, anywhere))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(
        "| run | vectors of | responses | roles | layer | cos(axis, PC1) | null | halves | prompts "
        "| roles last | default above |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for argument in sys.argv[1:]:
        main(Path(argument))
