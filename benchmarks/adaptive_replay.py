"""Adaptive against fixed design, replayed from the kept activations of one run.

Each replay draws an order anew: of the questions (within those that share a slot of prompts), and of the
roles. The adaptive design asks its rounds until its axis has a cosine of 0.95, or 0.99, with the axis of all
responses, or every role's position has an interval of +-0.3 (and of +-0.6, which a small run can reach). The
fixed design asks the same questions, one after another, of every role and of the default under all prompts
with all samples, as ``--profile quick`` and ``standard`` do. The paper's design asks every question under
every prompt of a role, and of the default as often as of one role: its size is reckoned from the variances
that the run shows.

    python benchmarks/adaptive_replay.py RUN [REPLAYS]        # writes adaptive_replay.md

RUN was made with ``--keep all --no-role-information`` and a profile that does not cross.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from personascope.corpus import load_corpus
from personascope.engines import EngineInfo
from personascope.errors import SpaceError
from personascope.mapping import DEFAULT, plan_run, resolve_profile
from personascope.mapping._design import Design, Rollout
from personascope.mapping._policy import ROLE_MARGIN, next_round
from personascope.mapping._rounds import Rounds
from personascope.mapping._until import Until
from personascope.space import LayerSums, Precision, cosine_of, measure_precision
from personascope.space._build import axis_coefficients, read_units, unit_layout
from personascope.space._layer import make_layer
from personascope.store import RunFolder

PAGE = Path(__file__).with_suffix(".md")
GOALS = ("cosine 0.95", "cosine 0.99", "roles 0.3", "roles 0.6")


class Kept:
    """The activations of a run at its middle layer, by id, with the tokens of each response."""

    def __init__(self, path: Path) -> None:
        """Read the run."""
        folder = RunFolder.read(path)
        identity = folder.manifest["identity"]
        model, profile = identity["model"], identity["profile"]
        # Of the engine's description, the design reads these three.
        info = SimpleNamespace(
            n_layers=model["n_layers"], d_model=model["d_model"], model_id=model["model_id"]
        )
        names = ("roles", "prompts", "questions", "default_samples", "max_new_tokens", "longest")
        changes: Any = {name: profile[name] for name in (*names, "role_information", "keep")}
        self.design = plan_run(
            cast(EngineInfo, info),
            load_corpus(),
            resolve_profile(profile["name"], **changes),
            seed=identity["seed"],
            model_name=identity["model_name"],
        )
        if self.design.digest != identity["design"]:
            sys.exit(f"{path} is a run of another design or corpus")
        self.model, self.layer = model["model_id"], model["n_layers"] // 2
        self.activations: dict[str, np.ndarray] = {}
        self.tokens: dict[str, int] = {}
        self.fully: set[str] = set()
        for index in sorted(folder.units):
            part: Any = folder.part(index, "kept")
            for row in folder.rows(index).to_pylist():
                self.tokens[row["id"]] = row["token_count"] or 0
                if row["score"] in (None, 3) and row["token_count"]:
                    self.fully.add(row["id"])
            for name in part.specs:
                self.activations[name] = part.read(name, self.layer)


class Replay:
    """The sums of the responses asked so far, in one order of the questions and roles."""

    def __init__(self, kept: Kept, seed: int) -> None:
        """Draw the order."""
        rng = np.random.default_rng(seed)
        design = kept.design
        places = design.n_places
        numbers = np.arange(len(design.questions))
        for slot in range(places):
            # A question was asked under the prompts of its slot alone, so it stays in it.
            within = numbers[slot::places]
            numbers[slot::places] = rng.permutation(within)
        self.kept = kept
        self.design: Design = replace(
            design, questions=tuple(design.questions[n] for n in numbers), seed=int(rng.integers(2**31))
        )
        self.names = tuple(role.name for role in design.roles)
        self.index = {name: place for place, name in enumerate(self.names)}
        shape, d = (len(self.names), design.n_folds), len(next(iter(kept.activations.values())))
        self.counts, self.sums = np.zeros(shape, np.int64), np.zeros((*shape, d))
        self.of_default, self.default = np.zeros(shape[1], np.int64), np.zeros((shape[1], d))
        self.rollouts = self.tokens = 0
        # The prompts are drawn from the seed, which is another here: ids are found by role and question.
        self.by_cell: dict[tuple[str, int], list[str]] = {}
        for id in kept.tokens:
            role, _, question, _ = id.split("/")
            self.by_cell.setdefault((role, int(question[1:])), []).append(id)

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Add responses."""
        for one in rollouts:
            id = one.id if one.role == DEFAULT else self.by_cell[one.role, one.question_index][0]
            self.rollouts += 1
            self.tokens += self.kept.tokens[id]
            if id not in self.kept.fully:
                continue
            values = self.kept.activations[id]
            if one.role == DEFAULT:
                self.default[one.fold] += values
                self.of_default[one.fold] += 1
            else:
                self.sums[self.index[one.role], one.fold] += values
                self.counts[self.index[one.role], one.fold] += 1

    def layer_sums(self) -> LayerSums:
        """Return the sums."""
        return LayerSums(
            self.names, self.design.fold_design, self.sums, self.counts, self.default, self.of_default
        )

    def precision(self) -> Precision | None:
        """Return what a look says."""
        enough = (self.counts.sum(axis=1) >= self.design.profile.min_fully).sum()
        if enough < len(self.names) / 2:
            return None
        try:
            return measure_precision(self.layer_sums(), min_fully=self.design.profile.min_fully)
        except SpaceError:
            return None

    def axis(self) -> np.ndarray | None:
        """Return the axis so far."""
        sums = self.layer_sums()
        try:
            layout, keep = unit_layout(sums, self.design.profile.min_fully, 2**62)
        except SpaceError:
            return None
        layer = make_layer(layout, read_units(sums, 0, layout, keep))
        axis = layer.rows.T @ axis_coefficients(layout)
        return axis / np.linalg.norm(axis)


def reached(replay: Replay, whole: np.ndarray) -> dict[str, bool]:
    """Return which goals the replay has reached."""
    axis, look = replay.axis(), replay.precision()
    cosine = 0.0 if axis is None else float(axis @ whole)
    return {
        "cosine 0.95": cosine >= 0.95,
        "cosine 0.99": cosine >= 0.99,
        "roles 0.3": look is not None and float(look.half_widths.max()) <= 0.3,
        "roles 0.6": look is not None and float(look.half_widths.max()) <= 0.6,
    }


def sizes(steps: Callable[[Replay], bool], replay: Replay, whole: np.ndarray) -> dict[str, tuple[int, int]]:
    """Take steps until all goals are reached or none is left; return rollouts and tokens at each goal."""
    found: dict[str, tuple[int, int]] = {}
    while len(found) < len(GOALS) and steps(replay):
        for name, there in reached(replay, whole).items():
            if there:
                found.setdefault(name, (replay.rollouts, replay.tokens))
    return found


def adaptive(until: Until, replay: Replay) -> Callable[[Replay], bool]:
    """Return the steps of the adaptive design."""
    rounds = Rounds(replay.design)
    looks: list[Precision | None] = [None]

    def step(replay: Replay) -> bool:
        made = next_round(until, rounds, looks[-1])
        if made is None:
            return False
        default, roles = rounds.take(made)
        replay.add(default + roles)
        looks.append(replay.precision())
        return True

    return step


def fixed(replay: Replay) -> Callable[[Replay], bool]:
    """Return the steps of the fixed design: one question more of every role and of the default."""
    by_question: dict[int, list[Rollout]] = {}
    for rollout in replay.design:
        by_question.setdefault(rollout.question_index, []).append(rollout)
    left = [by_question[question] for question in replay.design.questions]

    def step(replay: Replay) -> bool:
        if not left:
            return False
        replay.add(left.pop(0))
        return True

    return step


def paper_rollouts(look: Precision, cosine: float, roles: int = 275, prompts: int = 5) -> float:
    """Return the rollouts that the paper's design needs for a cosine, from the variances of a run.

    With K questions there are ``prompts * K`` responses of each role and of the default. The error of the
    axis is that of the questions, of the default's responses and of the roles' prompts and responses.
    """
    sine = 1.0 - cosine**2
    each = look.response / prompts + look.response / (prompts * roles) + questions_part(look)
    fixed = look.prompt / (prompts * roles)
    return (roles + 1) * prompts * each / (sine - fixed) if sine > fixed else float("nan")


def questions_part(look: Precision) -> float:
    """Return the variance between questions of the default's distance from the mean role."""
    total = int(look.responses.sum())
    own = (look.prompt + look.response) / total + look.response / (OF_DEFAULT[0] * look.blocks)
    return max(0.0, look.noise - own) * look.blocks


OF_DEFAULT = [1.0]
"""Responses of the default in a block of questions of the whole run."""


def at_end(kept: Kept, seed: int) -> np.ndarray:
    """Return the axis of all responses, in the folds of a replay."""
    replay = Replay(kept, seed)
    replay.add(list(replay.design))
    axis = replay.axis()
    assert axis is not None
    return axis


def main(path: Path, replays: int) -> None:
    """Print and write the table."""
    kept = Kept(path)
    everything = Replay(kept, 0)
    everything.add(list(everything.design))
    look = everything.precision()
    if look is None:
        sys.exit(f"{path} is too small for an axis")
    OF_DEFAULT[0] = float(everything.of_default.mean())
    designs: dict[str, Callable[[Replay], Callable[[Replay], bool]]] = {
        "fixed": fixed,
        "adaptive, for the axis": lambda replay: adaptive(Until(axis=0.999), replay),
        "adaptive, for the roles": lambda replay: adaptive(Until(roles=0.6 * ROLE_MARGIN), replay),
    }
    rows: dict[tuple[str, str], list[tuple[int, int] | None]] = {}
    for seed in range(replays):
        # Blocks of questions weigh alike, so the axis of all depends a little on which lie in one block.
        whole = at_end(kept, seed)
        for name, steps in designs.items():
            replay = Replay(kept, seed)
            found = sizes(steps(replay), replay, whole)
            for goal in GOALS:
                rows.setdefault((name, goal), []).append(found.get(goal))
    design = kept.design
    mean = np.mean(list(kept.tokens.values()))
    lines = [
        "# Adaptive against fixed design",
        "",
        f"`python benchmarks/adaptive_replay.py RUN {replays}`: {replays} replays of one run of {kept.model} "
        f"with kept activations: {len(design.roles)} roles, {len(design.questions)} questions,",
        f"{design.n_places} prompts of a role, {design.profile.default_samples} samples of the default, "
        f"{len(design)} responses of at most {design.profile.max_new_tokens} tokens, layer {kept.layer}.",
        "",
        f"The split-half cosine of all is {look.split_half:.3f} (at least {look.split_half_low:.3f}): the "
        "axis of all has a cosine of about",
        f"{np.sqrt(max(0.0, 1 - look.noise)):.3f} with that of unlimited questions. The widest interval of a "
        f"role is ±{look.half_widths.max():.2f}. Near the whole, every design agrees",
        "with the axis of all because it holds the same responses. What the rule itself stops at is in",
        "adaptive_stopping.md, and designs that are not bound to so small a run are in adaptive_size.md.",
        "",
        "| design | goal | reached | rollouts, median (range) | tokens, median | of the fixed design's |",
        "|---|---|---|---|---|---|",
    ]
    for (name, goal), found in rows.items():
        there = [one for one in found if one is not None]
        ratio = [
            one[0] / other[0]
            for one, other in zip(found, rows["fixed", goal], strict=True)
            if one is not None and other is not None
        ]
        if not there:
            lines.append(f"| {name} | {goal} | 0 of {replays} | | | |")
            continue
        counts = np.array(there)
        lines.append(
            f"| {name} | {goal} | {len(there)} of {replays} "
            f"| {np.median(counts[:, 0]):,.0f} ({counts[:, 0].min():,} to {counts[:, 0].max():,}) "
            f"| {np.median(counts[:, 1]):,.0f} | {np.median(ratio):.2f} |"
            if ratio
            else f"| {name} | {goal} | {len(there)} of {replays} | {np.median(counts[:, 0]):,.0f} | | |"
        )
    lines += ["", "The paper's design (275 roles, 5 prompts), reckoned from this run's variances:", ""]
    for cosine in (0.95, 0.99, cosine_of(0.95)):
        size = paper_rollouts(look, cosine)
        lines.append(
            f"- for a cosine of {cosine:.3f} with the axis of unlimited questions: {size:,.0f} rollouts, "
            f"{size * mean:,.0f} tokens at this length, {size * 512:,.0f} at 512 tokens (the whole is "
            f"{331_200:,} rollouts)"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
