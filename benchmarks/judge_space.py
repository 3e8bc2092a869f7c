"""What a judge does to the space: one run's responses, kept by each judge in turn.

Reads a committed run of judge ``rules`` of which every fold of a role holds one response (`quick`,
`standard`), and lets other judges score the responses of some of its roles, drawn at random. It makes a map
of all responses, of those that each judge puts fully in the role (score 3), of those that played, and of as
many that the judge gives the greatest probability of a 3, all over the same roles. Axis and ranking are
compared with those of all responses. A map of fewer responses differs by chance too, so beside each stand
maps of as many responses of each role, drawn at random. Responses that ``rules`` scored 0 or 1 lie in no fold
of their own and are left out of all maps; their number is given.

    python benchmarks/judge_space.py RUN ROLES JUDGE [ROLES JUDGE ...]     # writes judge_space.md

JUDGE is one as in --judge, such as local:MODEL.gguf or rules; each has a number of roles of its own.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from played import Chosen
from role_information import kappa
from scipy.stats import rankdata

from personascope.corpus import load_corpus
from personascope.engines import EngineInfo
from personascope.errors import SpaceError
from personascope.judge import Judge, JudgeItem, Verdict, parse_judge
from personascope.mapping import RunSums, plan_run, resolve_profile
from personascope.space import Bucket, Space, build_space
from personascope.store import RunFolder

PAGE = Path(__file__).with_suffix(".md")
AT_ONCE = 64
SEED = 11
DRAWS = 1000
RANDOM = 40
"""Number of maps of responses drawn at random."""


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


async def verdicts(judge: Judge, items: list[JudgeItem]) -> dict[str, Verdict]:
    """Return the verdict on every item, with a line of progress on stderr."""
    room, start, done = asyncio.Semaphore(AT_ONCE), time.monotonic(), 0

    async def one(item: JudgeItem) -> tuple[str, Verdict]:
        nonlocal done
        async with room:
            verdict = await judge.score(item)
        done += 1
        if done % 20 == 0 or done == len(items):
            left = (time.monotonic() - start) / done * (len(items) - done)
            print(f"judge: {done} of {len(items)}, {left / 60:.1f} min left", file=sys.stderr, flush=True)
        return item.id, verdict

    try:
        return dict(await asyncio.gather(*(one(item) for item in items)))
    finally:
        await judge.aclose()


@dataclass(frozen=True)
class Map:
    """A map's role vectors and default at one layer.

    Attributes:
        vectors: Vector of each role, by name.
        default: Vector of the default, [d].
    """

    vectors: dict[str, np.ndarray]
    default: np.ndarray

    def axis(self, roles: Sequence[str]) -> np.ndarray:
        """Return the unit axis over some roles; one may stand there several times."""
        raw = self.default - np.mean([self.vectors[role] for role in roles], axis=0)
        return raw / np.linalg.norm(raw)

    def agreement(self, other: Map, drawn: Sequence[str]) -> tuple[float, float]:
        """Return the cosine of two axes, and the rank correlation of the places of the roles of both.

        Args:
            other: Map with a vector of every role.
            drawn: Roles, each as often as it was drawn.
        """
        mine = [role for role in drawn if role in self.vectors]
        if len(set(mine)) < 3:
            return float("nan"), float("nan")
        a, b = self.axis(mine), other.axis(drawn)
        places = [[one.vectors[role] @ axis for role in mine] for one, axis in ((self, a), (other, b))]
        ranks = [rankdata(one) for one in places]
        return float(a @ b), float(np.corrcoef(ranks)[0, 1])


def agreement(one: Map, whole: Map) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and rank correlation of a map with that of all, and their 95% intervals over roles."""
    rng, names = np.random.default_rng(SEED), list(whole.vectors)
    drawn = [
        one.agreement(whole, [names[k] for k in rng.integers(len(names), size=len(names))])
        for _ in range(DRAWS)
    ]
    return np.array(one.agreement(whole, names)), np.nanquantile(drawn, [0.025, 0.975], axis=0)


def a_map(sums: Any, design: Any, layer: int | None) -> tuple[Map, Space]:
    """Return the map of some responses at a layer, or at its own middle layer."""
    few: dict[str, Any] = {} if layer is None else {"n_boot": 1, "n_splits": 1, "middle_layer": layer}
    space = build_space(sums, min_fully=design.profile.min_fully, seed=design.seed, **few)
    at = space.middle_layer
    vectors = zip(space.roles, space.role_vectors[at].astype(np.float64), strict=True)
    return Map(dict(vectors), space.default_vector[at].astype(np.float64)), space


class OneLayer:
    """Sums at one layer of some responses, for maps that need no other."""

    def __init__(self, sums: Any, layer: int) -> None:
        """Read the layer."""
        self.roles, self.n_layers, self.d_model = sums.roles, 1, sums.d_model
        self.n_folds, self.fold_design = sums.n_folds, sums.fold_design
        self.default_counts = sums.default_counts
        self._counts, self._sums = sums.counts("fully"), sums.sums("fully", layer)
        self._default = sums.default_sums(layer)

    def counts(self, bucket: Bucket) -> np.ndarray:
        """Responses behind each sum of a bucket."""
        return self._counts if bucket == "fully" else np.zeros_like(self._counts)

    def sums(self, bucket: Bucket, _layer: int) -> np.ndarray:
        """Sums of one bucket."""
        return self._sums if bucket == "fully" else np.zeros_like(self._sums)

    def default_sums(self, _layer: int) -> np.ndarray:
        """Sums of the default."""
        return self._default


def at_random(sums: Any, keep: np.ndarray, design: Any, whole: Map) -> np.ndarray:
    """Return the agreement with the map of all of maps of as many responses of each role, [draws, 2]."""
    rng, counts, found = np.random.default_rng(SEED), sums.counts("fully"), []
    for _ in range(RANDOM):
        within = np.zeros_like(keep)
        for role, number in enumerate((keep & (counts > 0)).sum(axis=1)):
            within[role, rng.choice(np.flatnonzero(counts[role]), int(number), replace=False)] = True
        drawn, _space = a_map(Chosen(cast(RunSums, sums), within), design, 0)
        found.append(drawn.agreement(whole, list(whole.vectors)))
    return np.array(found)


def rows_of(name: str, sums: Any, keep: np.ndarray, design: Any, whole: tuple[Map, int]) -> str:
    """Return the row of the responses that were kept; what has no map says why."""
    chosen = Chosen(cast(RunSums, sums), keep)
    count = int(chosen.counts("fully").sum())
    layer = whole[1]
    try:
        space = build_space(chosen, min_fully=design.profile.min_fully, seed=design.seed, middle_layer=layer)
    except SpaceError as error:
        return f"| {name} | {count} | - | {error.message} | | | | | |"
    one = OneLayer(sums, layer)
    mine, _ = a_map(Chosen(cast(RunSums, one), keep), design, 0)
    point, (low, high) = agreement(mine, whole[0])
    random = at_random(one, keep, design, whole[0])
    drawn = [f"{np.median(column):.2f} ({np.quantile(column, 0.05):.2f})" for column in random.T]
    stats = space.stats
    order = np.argsort(stats.projections[layer])
    ends = [", ".join(space.roles[place] for place in places) for places in (order[::-1][:4], order[:4])]
    return (
        f"| {name} | {count} | {len(space.roles)} "
        f"| {stats.cos_axis_pc1[layer]:.2f} ({stats.null_q95[layer]:.2f}) "
        f"| {stats.split_half[layer]:.2f} | {stats.role_reliability[layer]:.0%} "
        f"| {point[0]:.2f} ({low[0]:.2f} to {high[0]:.2f}) | {drawn[0]} "
        f"| {point[1]:.2f} ({low[1]:.2f} to {high[1]:.2f}) | {drawn[1]} "
        f"| {ends[0]} - {ends[1]} |"
    )


def weighted_kappa(first: np.ndarray, second: np.ndarray) -> str:
    """Return quadratic kappa of scores 0 to 3, 0 and 1 taken together, with its 95% interval."""
    a, b = np.clip(first - 1, 0, 2), np.clip(second - 1, 0, 2)
    rng, draws = np.random.default_rng(SEED), []
    with np.errstate(invalid="ignore"):
        for _ in range(DRAWS):
            pick = rng.integers(len(a), size=len(a))
            draws.append(kappa(a[pick], b[pick]))
        low, high = np.nanquantile(draws, [0.025, 0.975])
        return f"{kappa(a, b):.2f} ({low:.2f} to {high:.2f})"


def section(folder: RunFolder, design: Any, spec: str, count: int) -> str:
    """Return the table of one judge."""
    model = folder.manifest["identity"]["model"]
    sums = RunSums(folder, design, model["n_layers"], model["d_model"], vectors="rubric")
    places = np.sort(np.random.default_rng(SEED).permutation(len(sums.roles))[:count])
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
    judge = parse_judge(spec)
    assert judge is not None
    start = time.monotonic()
    judged = asyncio.run(verdicts(judge, items))
    given = {name: verdict.score for name, verdict in judged.items()}
    minutes = (time.monotonic() - start) / 60
    keep = {name: np.zeros((len(names), sums.n_folds), bool) for name in ("rules", "judge", "played")}
    shares = np.full((len(names), sums.n_folds), -1.0)
    for row in rows:
        at = (names.index(row["role"]), row["fold"])
        if row["score"] >= 2:
            keep["rules"][at] = row["score"] == 3
            keep["judge"][at] = given[row["id"]] == 3
            keep["played"][at] = bool(row["played"])
            shares[at] = (judged[row["id"]].probabilities or (0.0,) * 4)[3]
    # A judge whose labels are all alike may still put responses in order.
    keep["likeliest"] = np.zeros_like(keep["played"])
    likeliest = np.argsort(-shares, axis=None, kind="stable")[: int(keep["played"].sum())]
    keep["likeliest"].flat[likeliest] = True
    both = [(row["score"], given[row["id"]]) for row in rows if given[row["id"]] is not None]
    first, second = (np.array(side) for side in zip(*both, strict=True))
    table = np.zeros((4, 4), int)
    np.add.at(table, (first, second), 1)
    every = All(sums, places)
    whole, space = a_map(every, design, None)
    lines = [
        f"## {Path(spec).name.removeprefix('local:')}",
        "",
        f"{len(names)} roles drawn of {len(sums.roles)}, {len(rows)} responses, middle layer "
        f"{space.middle_layer}; {minutes:.0f} minutes. {sum(row['score'] < 2 for row in rows)} that rules "
        f"scored 0 or 1 are in no map; {len(rows) - len(both)} the judge left without a score.",
        "",
        f"Scores 0 to 3 of rules: {table.sum(1).tolist()}; of the judge: {table.sum(0).tolist()}. Quadratic "
        f"kappa of the two: {weighted_kappa(first, second)}, 0 and 1 taken together.",
        "",
        "| kept | responses | roles | cos(axis, PC1) (null) | split-half | roles' spread that lasts "
        "| cosine of the axes | at random | Spearman of the places | at random | ends |",
        "|---" * 11 + "|",
    ]
    kept = [("all (no judge)", np.ones_like(keep["rules"])), ("rules: 3", keep["rules"])]
    kept += [("played", keep["played"])]
    if spec != "rules":
        kept += [
            ("judge: 3", keep["judge"]),
            ("judge: 3, and played", keep["judge"] & keep["played"]),
            ("judge: likeliest a 3, as many as played", keep["likeliest"]),
        ]
    for name, chosen in kept:
        lines.append(rows_of(name, every, chosen, design, (whole, space.middle_layer)))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def main(path: Path, judges: list[tuple[int, str]]) -> None:
    """Write the sections of some judges into the page, beside those of others on the same run."""
    folder = RunFolder.read(path)
    design = design_of(folder)
    head = "\n".join(
        [
            "# What a judge does to the space",
            "",
            f"`python benchmarks/judge_space.py RUN ROLES JUDGE ...` on a `{design.profile.name}` run of "
            f"{folder.manifest['identity']['model']['model_id']}, seed {design.seed}.",
            "",
            "Cosine of the axes and Spearman of the roles' places are with the map of all responses; their "
            f"95% intervals are over roles ({DRAWS} draws). At random: as many responses of each role, "
            f"median and lowest 5% of {RANDOM} draws.",
            "",
            "",
        ]
    )
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    earlier = old.removeprefix(head) if old.startswith(head) else ""
    parts = {part.splitlines()[0]: f"## {part.rstrip()}\n" for part in earlier.split("## ") if part.strip()}
    for count, spec in judges:
        text = section(folder, design, spec, count)
        parts[text.splitlines()[0].removeprefix("## ")] = text
        PAGE.write_text(head + "\n".join(parts.values()), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if len(sys.argv) < 4 or len(sys.argv) % 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), [(int(n), spec) for n, spec in zip(sys.argv[2::2], sys.argv[3::2], strict=True)])
