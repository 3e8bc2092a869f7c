"""Whether judging costs time beside generation: jobs with an engine and a judge of equal length.

    python benchmarks/overlap.py

The engine takes 5 ms a response and the judge 5 ms an item, one at a time, so that each alone takes as long
as the other. A job that judges after it generates takes twice as long as either; one that judges beside it
takes as long as the longer of the two, and the first and last items.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from paired import write_page

sys.path.extend([str(Path(__file__).parents[1] / "tests" / room) for room in ("", "mapping", "dynamics")])

import fakes
import harm_case

from personascope.chat import Message
from personascope.dynamics.harm import harm_design, run_harm
from personascope.engines import Completion, Request, Sampling
from personascope.evals import PLAIN, Trial, Trials, run_evaluation
from personascope.judge import JAILBREAK, JudgeItem, JudgeStats, Verdict
from personascope.mapping import Profile, run_map

STEP = 0.005
REPEATS = 5


def slow(engine: Any) -> Any:
    """Let an engine take its time for each response."""
    run = engine.run

    def slowly(requests: Iterable[Request]) -> Iterator[Completion]:
        for completion in run(requests):
            time.sleep(STEP)
            yield completion

    engine.run = slowly
    return engine


class SlowJudge:
    """Gives one verdict after the other."""

    name = "slow"

    def __init__(self) -> None:
        """Start counting."""
        self.stats = JudgeStats()
        self.items = 0
        self._turn = asyncio.Lock()

    async def score(self, item: JudgeItem) -> Verdict:
        """Take a step."""
        async with self._turn:
            await asyncio.sleep(STEP)
            self.items += 1
        return Verdict(item.id, 1 if item.rubric is JAILBREAK else 3, "", self.name)

    async def aclose(self) -> None:
        """Close nothing."""


def evaluation(out: Path, judge: SlowJudge | None) -> None:
    items = tuple(
        Trial(f"t{n}", "g", "v", (Message("user", f"What of {n}?"),), "", f"What of {n}?", (JAILBREAK,))
        for n in range(600)
    )
    trials = Trials("overlap", items, Sampling(max_new_tokens=4))
    run_evaluation(slow(fakes.FakeEngine()), trials, [PLAIN], out=out, judge=judge, progress=False)


def harm(out: Path, judge: SlowJudge | None) -> None:
    persona_map = harm_case.save_map(out / "map")
    design = harm_design(
        harm_case.corpus(), harm_questions(), model_name="Hash", questions=2, per_reply=6, no_role=False
    )
    run_harm(
        slow(harm_case.FakeEngine(persona_map)),
        persona_map,
        design,
        out=out / "run",
        judge=judge,
        progress=False,
    )


def harm_questions() -> Any:
    from personascope.corpus.datasets import load_harmful_questions

    return load_harmful_questions()


def a_map(out: Path, judge: SlowJudge | None) -> None:
    profile = Profile("small", None, None, 4, 2, 8, min_fully=1, min_somewhat=1, crossed=True, keep="all")
    run_map(
        slow(fakes.FakeEngine()),
        fakes.corpus(n_roles=60),
        profile,
        out=out,
        judge=judge,
        n_boot=2,
        progress=False,
    )


def seconds(job: Callable[[Path, SlowJudge | None], None], judge: SlowJudge | None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        job(Path(folder) / "out", judge)
        return time.perf_counter() - begun


def judging(items: int) -> float:
    """Return how long the judge alone takes."""
    judge = SlowJudge()

    async def all_of_them() -> None:
        probe = JudgeItem(id="x", role="", description="", system_prompt="", question="", response="")
        await asyncio.gather(*(judge.score(probe) for _ in range(items)))

    begun = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - begun


def main() -> None:
    lines = ["| job | engine alone, s | judge alone, s | both, s | both / longer |", "|---|---|---|---|---|"]
    for name, job in (("evaluation", evaluation), ("harm", harm), ("map", a_map)):
        rows: list[tuple[float, float, float]] = []
        for _ in range(REPEATS):
            alone, judge = seconds(job, None), SlowJudge()
            both = seconds(job, judge)
            rows.append((alone, judging(judge.items), both))
        alone, judged, both = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(b / max(a, j) for a, j, b in rows)
        lines.append(f"| {name} | {alone:.2f} | {judged:.2f} | {both:.2f} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    write_page(
        __file__,
        "Judging beside generation",
        "An engine that takes 5 ms a response and a judge that takes 5 ms an item, one at a time; medians of "
        f"{REPEATS} runs, each job with and without the judge in turn.\n\n" + "\n".join(lines),
    )


if __name__ == "__main__":
    main()
