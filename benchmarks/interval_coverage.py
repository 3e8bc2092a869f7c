"""Do the intervals of a map cover the truth? Simulated runs whose truth is known.

A world has roles with true places in 48 dimensions, a default, and the sources of error that a map meets: a
role's prompts differ, questions move every response, questions move the default otherwise than the roles,
and responses scatter. A run draws prompts and questions, and the intervals that ``build_space`` gives are
held against the world: role positions over new prompts and questions, cos(axis, PC1) over new roles too.
Beside them the intervals of the first design, which asked one fixed prompt and resampled random parts of
each role's responses with the axis held.

    python benchmarks/interval_coverage.py 200        # writes interval_coverage.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personascope.space import FoldDesign, build_space
from personascope.space._build import _point, read_units, unit_layout
from personascope.space._draws import Draws
from personascope.space._layer import make_layer, resample

PAGE = Path(__file__).with_suffix(".md")
D = 48


@dataclass(frozen=True)
class World:
    """Standard deviations in units of the distance from the mean role to the default."""

    name: str
    spread: tuple[float, ...]  # of the roles along the leading directions
    tilt: float  # sine of the angle between the axis and the first direction
    prompt: float
    question: float
    axis_question: float  # of what a question does to the default and not to the roles
    interaction: float  # of what a question does to single roles
    response: float
    played: float = 1.0  # share of responses that enter a role vector
    uneven: float = 0.0  # spread, on a log scale, of the roles' own error


WORLDS = (
    World("axis is the main component", (0.6, 0.35, 0.25, 0.2, 0.15), 0.5, 0.3, 1.0, 0.4, 0.3, 0.5),
    World("prompts matter most", (0.6, 0.35, 0.25, 0.2, 0.15), 0.5, 0.6, 1.0, 0.4, 0.2, 0.3),
    World(
        "half of the responses play", (0.6, 0.35, 0.25, 0.2, 0.15), 0.5, 0.3, 1.0, 0.4, 0.3, 0.5, played=0.5
    ),
    World(
        "roles differ in their error", (0.6, 0.35, 0.25, 0.2, 0.15), 0.5, 0.3, 1.0, 0.4, 0.3, 0.5, uneven=0.4
    ),
    World("axis across the main component", (0.5, 0.4, 0.3, 0.25, 0.2), 0.9, 0.3, 1.0, 0.4, 0.3, 0.5),
    World("axis at a right angle to it", (0.5, 0.4, 0.3, 0.25, 0.2), 0.995, 0.3, 1.0, 0.4, 0.3, 0.5),
)
DESIGNS = {"quick": (120, 2, 8, 8), "standard": (275, 3, 12, 12)}


class Run:
    """One simulated run (the protocol ``FoldSums``), and its truth."""

    n_layers, d_model = 1, D

    def __init__(
        self, world: World, roles: int, prompts: int, questions: int, rng: np.random.Generator, *, old: bool
    ) -> None:
        """Draw the world and one run of it; ``old`` for the first design, one prompt and random folds."""
        basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
        sizes = np.zeros(D)
        sizes[: len(world.spread)] = world.spread
        places = rng.normal(size=(roles, D)) * sizes @ basis.T
        # The default lies along the first direction, tilted into one that roles hardly use.
        toward = np.sqrt(1 - world.tilt**2) * basis[:, 0] + world.tilt * basis[:, -1]
        self.axis_true, self.first_true = toward, basis[:, 0]
        # Errors lie along the same directions as the roles, in part, and in part anywhere.
        shape = np.sqrt(0.5 * (sizes / np.linalg.norm(sizes)) ** 2 + 0.5 / D)

        def error(size: float, *lead: int) -> np.ndarray:
            return size * rng.normal(size=(*lead, D)) * shape @ basis.T * 1.6

        scale = np.exp(world.uneven * rng.normal(size=(roles, 1, 1)))
        if old:
            prompts = 1
        prompt = error(world.prompt, roles, prompts)
        question = error(world.question, questions)
        default_question = error(world.axis_question, questions)
        self.roles = tuple(f"r{i:03}" for i in range(roles))
        n_folds = questions if not old else min(8, questions)
        self.n_folds = n_folds
        place = np.arange(questions) % prompts
        responses = (
            places[:, None]
            + scale * prompt[:, place]
            + question
            + scale * error(world.interaction, roles, questions)
            + scale * error(world.response, roles, questions)
        )
        default = toward + question + default_question + error(world.response / np.sqrt(40), questions)
        if old:
            self.fold_design = None
            # Every role's questions were dealt into folds by themselves.
            fold = np.stack([rng.permutation(questions) % n_folds for _ in range(roles)])
            default_fold = rng.permutation(questions) % n_folds
        else:
            self.fold_design = FoldDesign(tuple(range(n_folds)), tuple(int(p) for p in place))
            fold = np.broadcast_to(np.arange(questions), (roles, questions))
            default_fold = np.arange(questions)
        used = rng.random((roles, questions)) < world.played
        self._counts = np.zeros((roles, n_folds), np.int64)
        self._sums = np.zeros((roles, n_folds, D), np.float32)
        rows = np.broadcast_to(np.arange(roles)[:, None], fold.shape)
        np.add.at(self._counts, (rows[used], fold[used]), 1)
        np.add.at(self._sums, (rows[used], fold[used]), responses[used])
        self._default_counts = np.zeros(n_folds, np.int64)
        self._default_sums = np.zeros((n_folds, D), np.float32)
        np.add.at(self._default_counts, default_fold, 40)
        np.add.at(self._default_sums, default_fold, 40 * default)
        about = places - places.mean(axis=0)
        axis = toward - places.mean(axis=0)
        self.positions = about @ axis / (axis @ axis)
        self.cosine = float(abs(self.axis_true @ self.first_true))
        first = np.linalg.svd(about, full_matrices=False)[2][0]
        self.cosine_of_these = float(abs(first @ axis) / np.linalg.norm(axis))

    def counts(self, bucket: str) -> np.ndarray:
        """Responses behind each sum."""
        return self._counts if bucket == "fully" else np.zeros_like(self._counts)

    def default_counts(self) -> np.ndarray:
        """Responses of the default."""
        return self._default_counts

    def sums(self, bucket: str, _layer: int) -> np.ndarray:
        """Sums of the roles."""
        return self._sums if bucket == "fully" else np.zeros_like(self._sums)

    def default_sums(self, _layer: int) -> np.ndarray:
        """Sums of the default."""
        return self._default_sums


def resampled_folds(counts: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Coefficients [U, F, n] of a bootstrap of all folds of each unit, as the first design drew them."""
    out = np.zeros((*counts.shape, n), np.float32)
    for place, row in enumerate(counts):
        live = np.flatnonzero(row)
        times = rng.multinomial(len(live), np.full(len(live), 1 / len(live)), size=n)
        out[place, live] = (times / (times @ row[live])[:, None]).T
    return out


def first_design(run: Run, rng: np.random.Generator, n: int = 200) -> tuple[float, bool]:
    """Coverage of the positions, and whether the cosine is covered, by the first design's intervals.

    Folds were resampled with the axis held; the cosine's draws, over roles too, were reflected about the
    estimate on Fisher's z scale, and the interval widened to hold the estimate.
    """
    layout, keep = unit_layout(run, 2, 2)
    layer = make_layer(layout, read_units(run, 0, layout, keep))
    point = _point(layer, 0)
    folds = resampled_folds(layout.counts, n, rng)
    chosen = [run.roles.index(name) for name in layout.roles]
    axis = point["axis"].astype(float)
    length = np.linalg.norm(axis)
    along = (layer.rows @ axis / length).reshape(layout.counts.shape)[:-1]
    draws = np.einsum("rf,rfb->rb", along, folds[:-1]) + float(layer.centre @ axis) / length
    zero, one = point["mean_projection"], point["default_projection"]
    low, high = (np.quantile(draws, [0.025, 0.975], axis=1) - zero) / (one - zero)
    truth = run.positions[chosen]
    inside = float(np.mean((low <= truth) & (truth <= high)))
    roles = len(layout.roles)
    weights = np.stack(
        [np.bincount(rng.integers(roles, size=roles), minlength=roles) for _ in range(n)], axis=1
    ).astype(np.float32)
    cosines = resample(layer, Draws(folds, weights), point["components"], n_vectors=1).cosine
    z = np.arctanh(min(float(point["cos_axis_pc1"]), 1 - 1e-12))
    low, high = np.quantile(np.arctanh(np.minimum(cosines, 1 - 1e-12)), [0.025, 0.975])
    ends = np.tanh(min(2 * z - high, z)), np.tanh(max(2 * z - low, z))
    return inside, bool(ends[0] <= run.cosine <= ends[1])


HEAD = """# Coverage of the intervals

`python benchmarks/interval_coverage.py {0}`: {0} simulated runs of each design and world; what the worlds are
stands in the script. 95% is asked for. `first` is the first design's interval on a run of its own design: one
prompt a role, the axis held, random parts of the responses resampled.

| design | world | positions | positions, first | width | roles found again | cos(axis, PC1) | cosine, first \
| its error as measured | its error, noise taken out |
|---|---|---|---|---|---|---|---|---|---|""".replace("\\\n", "")


def simulate(n: int) -> list[tuple[str, ...]]:
    """Return the table's rows."""
    rows = []
    for design, (roles, prompts, questions, _) in DESIGNS.items():
        for world in WORLDS:
            hits = {key: [] for key in ("new", "old", "cos", "old cos", "plug", "width", "error", "rel")}
            for seed in range(n):
                rng = np.random.default_rng([seed, len(rows)])
                run = Run(world, roles, prompts, questions, rng, old=False)
                space = build_space(run, min_fully=2, min_somewhat=2, n_boot=200, n_splits=20, seed=seed)
                stats = space.stats
                zero, one = stats.mean_projection[0], stats.default_projection[0]
                chosen = [run.roles.index(name) for name in space.roles]
                interval = (stats.projection_interval - zero) / (one - zero)
                truth = run.positions[chosen]
                inside = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
                hits["new"].append(inside.mean())
                hits["width"].append(np.diff(interval, axis=1).mean())
                low, high = stats.cos_axis_pc1_interval[0]
                hits["cos"].append(low <= run.cosine <= high)
                hits["plug"].append(stats.cos_axis_pc1[0] - run.cosine)
                hits["error"].append(stats.cos_axis_pc1_corrected[0] - run.cosine)
                hits["rel"].append(stats.role_reliability[0])
                before = Run(
                    world, roles, prompts, questions, np.random.default_rng([seed, len(rows)]), old=True
                )
                inside, covered = first_design(before, np.random.default_rng(seed))
                hits["old"].append(inside)
                hits["old cos"].append(covered)
            mean = {key: float(np.mean(values)) for key, values in hits.items()}
            rows.append(
                (
                    design,
                    world.name,
                    f"{mean['new']:.3f}",
                    f"{mean['old']:.3f}",
                    f"{mean['width']:.2f}",
                    f"{mean['rel']:.2f}",
                    f"{mean['cos']:.3f}",
                    f"{mean['old cos']:.3f}",
                    f"{mean['plug']:+.3f}",
                    f"{mean['error']:+.3f}",
                )
            )
            print(" | ".join(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    table = ["| " + " | ".join(row) + " |" for row in simulate(count)]
    PAGE.write_text("\n".join([HEAD.format(count), *table]) + "\n", encoding="utf-8")
