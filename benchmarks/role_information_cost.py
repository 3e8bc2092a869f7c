"""What role information adds to the cost of a map: the same small map with it and without, in turn.

CPU seconds of one process each, with one thread, so that what else the machine does counts for little.

    python benchmarks/role_information_cost.py [MODEL [REPEATS]]
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from paired import interval, ratio, write_page

SIZE = [
    "--profile",
    "quick",
    "--roles",
    "16",
    "--questions",
    "4",
    "--default-samples",
    "2",
    "--judge",
    "none",
]
WAYS = {"with": [], "without": ["--no-role-information"]}


def seconds(model: str, options: list[str]) -> float:
    """Return user and system time of a map in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        argv = [sys.executable, "-m", "personascope", "map", model, *SIZE, *options, "--out", out]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(model: str = "smollm2-135m", repeats: int = 7) -> None:
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for repeat in range(repeats):
        for name in list(WAYS)[:: 1 if repeat % 2 == 0 else -1]:
            taken[name].append(seconds(model, WAYS[name]))
            print(f"{repeat + 1}/{repeats} {name}: {taken[name][-1]:.1f} s of CPU", flush=True)
    middle, least, most = ratio(taken, "with", "without")
    low, high = interval(taken, "with", "without")
    few = "no 95% interval with so few pairs"
    sure = few if math.isnan(low) else f"95% of the median {low:.3f} to {high:.3f}"
    write_page(
        __file__,
        "What role information costs",
        f"A map of {model}, `{' '.join(SIZE)}`, one thread, {repeats} pairs in turn, user and system time of "
        "the whole command, loading included.\n\n| | CPU seconds, median |\n|---|---|\n"
        + "\n".join(f"| {name} | {statistics.median(values):.1f} |" for name, values in taken.items())
        + f"\n\nRatio {middle:.3f} ({sure}; all within {least:.3f} to {most:.3f}).",
    )


if __name__ == "__main__":
    main(*sys.argv[1:2], *(int(value) for value in sys.argv[2:3]))
