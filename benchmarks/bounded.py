"""Memory and disk of a run on a simulated model of 80 layers of 8192, with 20,000 responses.

``python benchmarks/bounded.py OUT`` writes several GB into OUT; give a folder with room.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
from paired import write_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mapping"))

import fakes

from personascope.mapping import Profile, collect_rollouts, estimate_disk, open_run, plan_run
from personascope.runs import Progress


def main(out: Path) -> None:
    profile = Profile(
        "bounded", None, None, 40, 10, 8, min_fully=2, min_somewhat=2, crossed=True, role_information=False
    )
    engine, judge = fakes.FakeEngine(80, 8192), fakes.FakeJudge()
    design = plan_run(engine.info, fakes.corpus(96, 40), profile)
    guess, process = estimate_disk(engine.info, design, mean_tokens=3.5), psutil.Process()
    resident: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        if progress.done % 200 == 0:
            resident[progress.done] = process.memory_info().rss / 1e9
            print(f"{progress.done:6d} of {progress.total}  {resident[progress.done]:.2f} GB", flush=True)

    with open_run(engine, design, out, judge) as folder:
        collect_rollouts(engine, design, folder, judge, progress=watch)
        disk = folder.disk_bytes()
    want = guess.sums + guess.kept + guess.rollouts
    rows = "\n".join(f"| {done} | {gb:.2f} |" for done, gb in resident.items() if done % 2000 == 0)
    warm = [gb for done, gb in resident.items() if done >= 2000]
    write_page(
        __file__,
        "Memory and disk of a long run",
        f"A simulated engine of 80 layers of 8192; {len(design)} responses with 2.6 MB of activations each "
        f"({len(design) * 80 * 8192 * 4 / 1e9:.0f} GB in all), 96 roles, {profile.keep} responses kept.\n\n"
        f"| responses | resident memory, GB |\n|---|---|\n{rows}\n\n"
        f"After the first 2,000 responses resident memory stays between {min(warm):.2f} and "
        f"{max(warm):.2f} GB. "
        f"Disk at the end: {disk / 1e9:.2f} GB; estimated beforehand: {want / 1e9:.2f} GB "
        f"(ratio {disk / want:.3f}).",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
