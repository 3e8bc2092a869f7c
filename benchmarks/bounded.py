"""Memory and disk of a run on a simulated 80 x 8192 model with about 20,000 responses.

``python benchmarks/bounded.py OUT`` prints resident memory over time, then the disk against the
estimate. It writes several GB; give a folder with room.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mapping"))

import fakes

from personascope.mapping import Profile, Progress, collect, estimate_disk, open_run, plan_run


def main(out: Path) -> None:
    profile = Profile("bounded", "all", 40, 10, 8, min_fully=2, min_somewhat=2)
    engine, judge = fakes.FakeEngine(80, 8192), fakes.FakeJudge()
    design = plan_run(engine.info, fakes.corpus(96, 40), profile)
    guess, process = estimate_disk(engine.info, design, mean_tokens=3.5), psutil.Process()

    def watch(progress: Progress) -> None:
        if progress.done % 200 == 0:
            resident = process.memory_info().rss / 1e9
            print(f"{progress.done:6d} of {progress.total}  {resident:.2f} GB resident", flush=True)

    with open_run(engine, design, out, judge) as folder:
        collect(engine, design, folder, judge, progress=watch)
        disk = folder.disk_bytes()
    want = guess.sums + guess.kept + guess.rollouts
    print(f"disk {disk / 1e9:.2f} GB, estimated {want / 1e9:.2f} GB, ratio {disk / want:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
