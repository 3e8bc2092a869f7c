"""Is the precision there that an adaptive run stopped at? Simulated runs whose truth is known.

A world has 60 roles in 200 dimensions, a default, and the sources of error that a map meets: a role's prompts
differ, questions move every response, questions move the default otherwise than the roles, questions move
single roles, and responses scatter. The order, the looks, the rule and the choice of the next round are those
of ``personascope map --until``. Each run is stopped by the rule, and then held against the world:

- ``axis``: the cosine of its axis with the world's is at least ``sqrt(2 r / (1 + r))`` for a goal of r;
- ``roles``: at least 95% of the roles' true positions lie within the half-width that was asked for.

    python benchmarks/adaptive_stopping.py 200        # writes adaptive_stopping.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from personascope.corpus import Corpus, Question, RoleEntry
from personascope.errors import SpaceError
from personascope.mapping import PROFILES, build_design
from personascope.mapping._design import DEFAULT, Rollout
from personascope.mapping._policy import LOOKS, ROLE_MARGIN, met, next_round
from personascope.mapping._rounds import Round, Rounds
from personascope.mapping._until import Until
from personascope.space import CurvePoint, LayerSums, Precision, cosine_of, curve_point, measure_precision

PAGE = Path(__file__).with_suffix(".md")
D, ROLES, QUESTIONS, PROMPTS = 200, 60, 90, 5


@dataclass(frozen=True)
class World:
    """Standard deviations in units of the distance from the mean role to the default."""

    name: str
    spread: tuple[float, ...] = (0.6, 0.35, 0.25, 0.2, 0.15)  # of the roles along the leading directions
    prompt: float = 0.3
    question: float = 1.0
    axis_question: float = 0.4  # of what a question does to the default and not to the roles
    interaction: float = 0.3  # of what a question does to single roles
    response: float = 0.5
    played: float = 1.0  # share of responses that enter a role vector
    uneven: float = 0.0  # spread, on a log scale, of the roles' own error
    isotropic: float = 0.5  # share of the errors' variance that lies anywhere, and not along the roles
    tails: bool = False  # questions with heavy tails (Student's t with 4 degrees of freedom)


WORLDS = (
    World("middling"),
    World("prompts matter most", prompt=0.6, interaction=0.2, response=0.3),
    World("half of the responses play", played=0.5),
    World("roles differ in their error", uneven=0.4),
    World("questions matter most", axis_question=0.8, response=0.3),
    World("responses scatter most", axis_question=0.1, response=1.0),
    World("as measured on SmolLM2", prompt=0.25, interaction=0.3, response=1.5),
    World("errors along few directions", isotropic=0.0),
    World("questions with heavy tails", tails=True),
)
GOALS = (Until(axis=0.9), Until(axis=0.95), Until(roles=0.5))


class Truth:
    """One drawn world: what every rollout's activation is but for its own scatter."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        """Draw places, prompts, questions and interactions."""
        self.world, self.rng = world, rng
        # Nothing that is measured depends on the coordinates, so the leading directions are the first ones.
        sizes = np.zeros(D)
        sizes[: len(world.spread)] = world.spread
        self.places = rng.normal(size=(ROLES, D)) * sizes
        toward = np.zeros(D)
        toward[[0, -1]] = np.sqrt(0.75), 0.5
        share = world.isotropic
        self.shape = np.sqrt((1 - share) * (sizes / np.linalg.norm(sizes)) ** 2 + share / D)
        scale = np.exp(world.uneven * rng.normal(size=(ROLES, 1, 1)))
        self.scale = scale[:, 0, 0]
        self.prompt = scale * self.error(world.prompt, ROLES, PROMPTS)
        self.question = self.error(world.question, QUESTIONS)
        self.axis_question = self.error(world.axis_question, QUESTIONS)
        if world.tails:
            self.axis_question *= np.sqrt(2 / rng.chisquare(4, size=(QUESTIONS, 1)))
        self.interaction = scale * self.error(world.interaction, ROLES, QUESTIONS)
        self.default = toward
        self.axis = toward - self.places.mean(axis=0)
        self.positions = (self.places - self.places.mean(axis=0)) @ self.axis / (self.axis @ self.axis)

    def error(self, size: float, *lead: int) -> np.ndarray:
        """Draw errors along the directions of the roles, in part, and in part anywhere."""
        return size * 1.6 * self.rng.standard_normal((*lead, D), np.float32) * self.shape


class Simulated:
    """An adaptive run of a world: its rounds, and the sums of what was asked so far."""

    def __init__(self, world: World, seed: int, n_boot: int = 100) -> None:
        """Draw the world and the design."""
        self.truth = Truth(world, np.random.default_rng([seed, 1]))
        self.design = build_design(corpus(), PROFILE, seed, "m")
        self.rounds = Rounds(self.design)
        self.index = {role.name: place for place, role in enumerate(self.design.roles)}
        shape = (ROLES, self.design.n_folds)
        self.fully, self.counts = np.zeros((*shape, D)), np.zeros(shape, np.int64)
        self.default, self.of_default = np.zeros((shape[1], D)), np.zeros(shape[1], np.int64)
        self.rollouts, self.n_boot = 0, n_boot

    def ask(self, made: Round) -> None:
        """Add the responses of a round."""
        default, roles = self.rounds.take(made)
        self.add(default + roles)

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Add responses, of which a share enters the vectors."""
        truth, world = self.truth, self.truth.world
        scatter = truth.error(world.response, len(rollouts))
        plays = truth.rng.random(len(rollouts)) < world.played
        for at, one in enumerate(rollouts):
            question = truth.question[one.question_index]
            if one.role == DEFAULT:
                about = truth.default + question + truth.axis_question[one.question_index]
                self.default[one.fold] += about + scatter[at]
                self.of_default[one.fold] += 1
            elif plays[at]:
                role = self.index[one.role]
                own = truth.prompt[role, one.prompt_index] + truth.interaction[role, one.question_index]
                about = truth.places[role] + question + own + truth.scale[role] * scatter[at]
                self.fully[role, one.fold] += about
                self.counts[role, one.fold] += 1
        self.rollouts += len(rollouts)

    def look(self) -> Precision | None:
        """Return what a look says."""
        sums = LayerSums(
            tuple(self.index), self.design.fold_design, self.fully, self.counts, self.default, self.of_default
        )
        if (self.counts.sum(axis=1) >= PROFILE.min_fully).sum() < ROLES / 2:
            return None
        try:
            return measure_precision(sums, min_fully=PROFILE.min_fully, n_boot=self.n_boot, n_splits=2)
        except SpaceError:
            return None

    def axis(self) -> np.ndarray:
        """Return the axis of what was asked so far."""
        from personascope.space._build import axis_coefficients, read_units, unit_layout
        from personascope.space._layer import make_layer

        sums = LayerSums(
            tuple(self.index), self.design.fold_design, self.fully, self.counts, self.default, self.of_default
        )
        layout, keep = unit_layout(sums, PROFILE.min_fully, 2**62)
        layer = make_layer(layout, read_units(sums, 0, layout, keep))
        axis = layer.rows.T @ axis_coefficients(layout)
        rows = layer.rows.reshape(*layout.counts.shape, -1)[:-1]
        means = rows.sum(axis=1) / layout.counts[:-1].sum(axis=1)[:, None]
        self.found = (means - means.mean(axis=0)) @ axis / (axis @ axis)
        return axis


def corpus() -> Corpus:
    """Return a corpus of placeholders; nothing is generated."""
    return Corpus(
        "simulated",
        tuple(
            RoleEntry(f"r{r:03}", "g", "", tuple("x" * (p + 1) for p in range(PROMPTS))) for r in range(ROLES)
        ),
        tuple(Question(f"q{q}", f"a{q}", f"{q}?") for q in range(QUESTIONS)),
        ("", "a", "b", "c", "d"),
        "simulated",
    )


PROFILE = replace(
    PROFILES["standard"], prompts=PROMPTS, questions=QUESTIONS, default_samples=8, role_information=False
)


@dataclass
class Outcome:
    """How a run ended: whether by the rule, after how many responses and looks, and what was true then."""

    stopped: bool
    rollouts: int
    there: bool
    share: float
    looks: int


def outcome(world: World, until: Until, seed: int) -> Outcome:
    """Run a world until the rule stops it or the design is asked whole."""
    # The draws are those of role positions.
    run = Simulated(world, seed, 2 if until.roles is None else 100)
    looks: list[CurvePoint] = []
    stop, look = "", None
    while not stop:
        made = next_round(until, run.rounds, look)
        if made is None:
            break
        run.ask(made)
        look = run.look()
        looks.append(curve_point(len(looks) + 1, made.kind, run.rollouts, 0, look))
        stop = met(until, looks)
    axis = run.axis()
    truth = run.truth
    cosine = float(axis @ truth.axis / np.linalg.norm(axis) / np.linalg.norm(truth.axis))
    with_vector = np.flatnonzero(run.counts.sum(axis=1) >= PROFILE.min_fully)
    error = np.abs(run.found - truth.positions[with_vector])
    share = float(np.mean(error <= (until.roles or 1.0)))
    if until.axis is not None:
        return Outcome(bool(stop), run.rollouts, cosine >= cosine_of(until.axis), cosine, len(looks))
    return Outcome(bool(stop), run.rollouts, share >= 0.95, share, len(looks))


HEAD = """# Coverage of adaptive stopping

`python benchmarks/adaptive_stopping.py {0}`: {0} simulated runs of each goal and world; what the worlds are
stands in the script. The rule: the bound of a look holds in {1} looks running (for roles, half-widths times
{2:g}). `there` is the share of the runs that stopped by the rule in which the precision was truly there; 95%
is asked for. The last column is the median cosine with the true axis, or the share of all true positions
within the half-width.

| goal | world | stopped by the rule | responses (5% to 95% of runs) | looks | there | cosine, or positions |
|---|---|---|---|---|---|---|"""


def row(case: tuple[Until, World], n: int) -> str:
    """Return one line of the table."""
    until, world = case
    found = [outcome(world, until, seed) for seed in range(n)]
    stopped = [one for one in found if one.stopped]
    if not stopped:
        return f"| {until.texts[0]} | {world.name} | 0 of {n} | | | | |"
    sizes = np.quantile([one.rollouts for one in stopped], [0.05, 0.5, 0.95])
    value = (np.median if until.axis else np.mean)([one.share for one in stopped])
    return (
        f"| {until.texts[0]} | {world.name} | {len(stopped)} of {n} "
        f"| {sizes[1]:.0f} ({sizes[0]:.0f} to {sizes[2]:.0f}) "
        f"| {np.median([one.looks for one in stopped]):.0f} "
        f"| {np.mean([one.there for one in stopped]):.3f} | {value:.3f} |"
    )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    lines = [HEAD.format(count, LOOKS, ROLE_MARGIN)]
    print(lines[0])
    with Pool() as pool:
        for line in pool.imap(partial(row, n=count), [(goal, one) for goal in GOALS for one in WORLDS]):
            lines.append(line)
            print(line, flush=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
