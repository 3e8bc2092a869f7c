"""How many responses does an axis take, adaptive against fixed, with 60 and with all 275 roles? Simulated.

A replay of kept activations is bound to the roles and questions of its run. Here the worlds of
``adaptive_stopping.py`` are asked in rounds, and by the fixed design of the profile `standard` (each question
of every role, and 40 times of the default), until the cosine of the axis with the true one is the goal.

    python benchmarks/adaptive_size.py 10        # writes adaptive_size.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import adaptive_stopping
import numpy as np
from adaptive_stopping import WORLDS, Simulated, World

from personascope.errors import SpaceError
from personascope.mapping._design import Rollout
from personascope.mapping._policy import next_round
from personascope.mapping._until import Until

PAGE = Path(__file__).with_suffix(".md")
COSINES = (0.95, 0.987)
HEAD = """# Size of an adaptive and of a fixed design

`python benchmarks/adaptive_size.py {0}`: {0} simulated runs a line. Median number of responses until the axis
has the cosine with the true axis; the worlds are those of `adaptive_stopping.py`, with {1} questions at most.

| world | roles | cosine | fixed | adaptive | adaptive of fixed |
|---|---|---|---|---|---|"""


def cosine(run: Simulated) -> float:
    """Return the cosine of a run's axis with the true one; 0 if there is none yet."""
    try:
        axis, truth = run.axis(), run.truth.axis
    except SpaceError:
        return 0.0
    return float(axis @ truth / np.linalg.norm(axis) / np.linalg.norm(truth))


def adaptive(world: World, seed: int) -> list[int]:
    """Return the responses at each cosine; the whole design where it is not reached."""
    run, look = Simulated(world, seed, 2), None
    found: list[int] = []
    while len(found) < len(COSINES):
        made = next_round(Until(axis=0.95), run.rounds, look)
        if made is None:
            break
        run.ask(made)
        look = run.look()
        found += [run.rollouts for goal in COSINES[len(found) :] if cosine(run) >= goal]
    return [*found, *[len(run.design)] * (len(COSINES) - len(found))]


def fixed(world: World, seed: int) -> list[int]:
    """Return the same of the fixed design, question by question."""
    run = Simulated(world, seed, 2)
    by_question: dict[int, list[Rollout]] = {}
    for rollout in run.design:
        by_question.setdefault(rollout.question_index, []).append(rollout)
    found: list[int] = []
    for question in run.design.questions:
        run.add(by_question[question])
        found += [run.rollouts for goal in COSINES[len(found) :] if cosine(run) >= goal]
        if len(found) == len(COSINES):
            break
    return [*found, *[len(run.design)] * (len(COSINES) - len(found))]


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    lines = [HEAD.format(count, adaptive_stopping.QUESTIONS)]
    print(lines[0])
    for world in (WORLDS[0], WORLDS[6]):
        for roles in (60, 275):
            adaptive_stopping.ROLES = roles
            sizes = np.array([[adaptive(world, seed), fixed(world, seed)] for seed in range(count)])
            for at, goal in enumerate(COSINES):
                few, many = np.median(sizes[:, 0, at]), np.median(sizes[:, 1, at])
                share = np.median(sizes[:, 0, at] / sizes[:, 1, at])
                lines.append(f"| {world.name} | {roles} | {goal} | {many:,.0f} | {few:,.0f} | {share:.2f} |")
                print(lines[-1], flush=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
