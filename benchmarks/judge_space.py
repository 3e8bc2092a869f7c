"""What a judge does to the space: one run's responses, kept by each judge in turn.

Reads a committed run of judge ``rules`` of which every fold of a role holds one response (`quick`,
`standard`), and lets another judge score the responses of some of its roles. It makes a map of all
responses, of those that each judge puts fully in the role (score 3), and of those that played, over the same
roles. Responses that ``rules`` scored 0 or 1 lie in no fold of their own and are left out of all of them;
their number is printed.

    python benchmarks/judge_space.py RUN JUDGE [ROLES]     # JUDGE as in --judge, such as local:MODEL.gguf
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from played import Chosen
from role_information import kappa

from personascope.corpus import load_corpus
from personascope.engines import EngineInfo
from personascope.errors import SpaceError
from personascope.judge import Judge, JudgeItem, parse_judge
from personascope.mapping import RunSums, plan_run, resolve_profile
from personascope.space import Bucket, Space, build_space
from personascope.store import RunFolder

AT_ONCE = 16
SEED = 11


class All:
    """Sums of the responses that ``rules`` scored 2 or 3, over some roles, all in the bucket "fully"."""

    def __init__(self, sums: RunSums, places: np.ndarray) -> None:
        """Take the roles at some places."""
        self._sums, self._places = sums, places
        self.roles = tuple(sums.roles[place] for place in places)
        self.n_layers, self.d_model = sums.n_layers, sums.d_model
        self.n_folds, self.fold_design = sums.n_folds, sums.fold_design
        self.default_counts, self.default_sums = sums.default_counts, sums.default_sums

    def counts(self, bucket: Bucket) -> np.ndarray:
        """Responses behind each sum of a bucket."""
        found = self._sums.counts("fully")[self._places] + self._sums.counts("somewhat")[self._places]
        return found if bucket == "fully" else np.zeros_like(found)

    def sums(self, bucket: Bucket, layer: int) -> np.ndarray:
        """Sums of one bucket at one layer."""
        found = (
            self._sums.sums("fully", layer)[self._places] + self._sums.sums("somewhat", layer)[self._places]
        )
        return found if bucket == "fully" else np.zeros_like(found)


def design_of(folder: RunFolder) -> Any:
    """Return the design of a run of the built-in corpus."""
    identity = folder.manifest["identity"]
    model, profile = identity["model"], identity["profile"]
    info = SimpleNamespace(n_layers=model["n_layers"], d_model=model["d_model"], model_id=model["model_id"])
    changes = {
        name: profile[name] for name in ("roles", "prompts", "questions", "default_samples", "max_new_tokens")
    }
    design = plan_run(
        cast(EngineInfo, info),
        load_corpus(),
        resolve_profile(profile["name"], **changes),
        seed=identity["seed"],
        model_name=identity["model_name"],
    )
    if design.digest != identity["design"]:
        sys.exit(f"{folder.path} is a run of another design or corpus")
    return design


async def scores(judge: Judge, items: list[JudgeItem]) -> dict[str, int | None]:
    """Return the score of every item."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: JudgeItem) -> tuple[str, int | None]:
        async with room:
            return item.id, (await judge.score(item)).score

    try:
        return dict(await asyncio.gather(*(one(item) for item in items)))
    finally:
        await judge.aclose()


def line(name: str, sums: Any, design: Any, whole: Space | None) -> tuple[str, Space | None]:
    """Return a row of the table, and the space; what has no space says why."""
    count = int(sums.counts("fully").sum())
    try:
        space = build_space(sums, min_fully=design.profile.min_fully, seed=design.seed)
    except SpaceError as error:
        return f"| {name} | {count} | | | | | | {error.message} |", None
    stats, layer = space.stats, space.middle_layer if whole is None else whole.middle_layer
    order = np.argsort(stats.projections[layer])
    ends = [", ".join(space.roles[place] for place in places) for places in (order[::-1][:4], order[:4])]
    same = ""
    if whole is not None:
        a, b = (one.axis[layer].astype(np.float64) for one in (space, whole))
        same = f"{a @ b / np.linalg.norm(a) / np.linalg.norm(b):.3f}"
    return (
        f"| {name} | {count} | {len(space.roles)} "
        f"| {stats.cos_axis_pc1[layer]:.2f} ({stats.null_q95[layer]:.2f}) "
        f"| {stats.split_half[layer]:.2f} | {stats.role_reliability[layer]:.0%} | {same} "
        f"| {ends[0]} - {ends[1]} |"
    ), space


def main(path: Path, spec: str, count: int) -> None:
    """Print the table of one run."""
    folder = RunFolder.read(path)
    design = design_of(folder)
    model = folder.manifest["identity"]["model"]
    shape = (model["n_layers"], model["d_model"])
    sums = RunSums(folder, design, *shape, vectors="rubric")
    rng = np.random.default_rng(SEED)
    places = np.sort(rng.permutation(len(sums.roles))[:count])
    names = [sums.roles[place] for place in places]
    rows = [row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()]
    rows = [row for row in rows if row["role"] in names and row["score"] is not None]
    items = [
        JudgeItem(
            row["id"],
            row["role"],
            design.role(row["role"]).description,
            row["system_prompt"],
            row["question"],
            row["text"],
        )
        for row in rows
    ]
    given = asyncio.run(scores(parse_judge(spec), items))
    shape_of = (len(names), sums.n_folds)
    keep = {name: np.zeros(shape_of, bool) for name in ("rules", "judge", "played")}
    for row in rows:
        at = (names.index(row["role"]), row["fold"])
        if row["score"] >= 2:
            keep["rules"][at] = row["score"] == 3
            keep["judge"][at] = given[row["id"]] == 3
            keep["played"][at] = bool(row["played"])
    both = [(row["score"], given[row["id"]]) for row in rows if given[row["id"]] is not None]
    first, second = (np.array(side) for side in zip(*both, strict=True))
    table = np.zeros((4, 4), int)
    np.add.at(table, (first, second), 1)
    quadratic = kappa(np.clip(first - 1, 0, 2), np.clip(second - 1, 0, 2))
    print(
        f"`python benchmarks/judge_space.py RUN {Path(spec).name} {count}`: {model['model_id']}, "
        f"{design.profile.name}, {len(names)} roles drawn of {len(sums.roles)}, {len(rows)} responses; "
        f"{sum(row['score'] < 2 for row in rows)} that rules scored 0 or 1 are in no map; "
        f"{len(rows) - len(both)} the judge left without a score.\n"
    )
    print(
        f"Scores 0 to 3 of rules: {table.sum(1).tolist()}; of the judge: {table.sum(0).tolist()}; weighted "
    )
    print(f"kappa of the two {quadratic:.2f} (0 and 1 taken together).\n")
    print(
        "| kept | responses | roles | cos(axis, PC1) (null) | split-half | roles' spread that lasts "
        "| cosine with the axis of all | ends |"
    )
    print("|---|---|---|---|---|---|---|---|")
    every = All(sums, places)
    text, whole = line("all (no judge)", every, design, None)
    print(text)
    for name, chosen in (
        ("rules: 3", keep["rules"]),
        ("judge: 3", keep["judge"]),
        ("played", keep["played"]),
        ("judge: 3, and played", keep["judge"] & keep["played"]),
    ):
        print(line(name, Chosen(cast(RunSums, every), chosen), design, whole)[0])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 40)
