"""CPU seconds that a command takes before it does anything.

    python benchmarks/start.py RUN [OTHER]

RUN is the run folder of a map; OTHER is the ``src`` folder of another version, which is timed in turn.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from paired import write_page

from personascope.cli._app import COMMANDS
from personascope.interventions import Plan, Steer

REPEATS = 5


def seconds(argv: list[str], source: str | None) -> float:
    """Return user and system time of one run in a process of its own."""
    env = {**os.environ, **({"PYTHONPATH": source} if source else {})}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], env=env, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(run: str, other: str | None) -> None:
    program = ["-m", "personascope"]
    kept = tempfile.TemporaryDirectory()
    plan = str(Path(kept.name) / "plan")
    direction = np.random.default_rng(0).standard_normal(4096)
    Plan(tuple(Steer(layer, direction, 0.2, 10.0) for layer in range(8))).save(plan)
    cases = {
        "import personascope": ["-c", "import personascope"],
        "--version": [*program, "--version"],
        "--help": [*program, "--help"],
        **{f"{name} --help": [*program, name, "--help"] for name in COMMANDS},
        "evaluate susceptibility --help": [*program, "evaluate", "susceptibility", "--help"],
        "corpus check": [*program, "corpus", "check"],
        "plan explain": [*program, "plan", "explain", plan],
        "show, no such folder": [*program, "show", "/nowhere"],
        "map, a wrong profile": [*program, "map", "x", "--profile", "huge"],
        "show of a map": [*program, "show", run],
    }
    rows = ["| | CPU seconds | before |", "|---|---|---|"] if other else ["| | CPU seconds |", "|---|---|"]
    for name, argv in cases.items():
        taken: list[list[float]] = [[], []]
        for _ in range(REPEATS):
            for place, source in enumerate([None, other] if other else [None]):
                taken[place].append(seconds(argv, source))
        row = f"| {name} | {statistics.median(taken[0]):.2f} |"
        rows.append(row + (f" {statistics.median(taken[1]):.2f} |" if other else ""))
        print(rows[-1], flush=True)
    write_page(
        __file__,
        "What a start costs",
        f"User and system time, median of {REPEATS}, in turn, nothing else running.\n\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2]).resolve()) if len(sys.argv) > 2 else None)
