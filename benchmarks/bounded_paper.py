"""Disk and memory of the paper's map, 275 roles and 240 traits, on a simulated model of one of its shapes.

Disk is taken by sums, of which there are as many as roles or traits, folds and buckets, whatever the number
of responses behind each. So the run has the paper's roles, traits, prompts and folds, and fewer questions:
every sum of the whole design is there. Rows of text, which do grow, are estimated for the whole design.

    python benchmarks/bounded_paper.py OUT [LAYERS WIDTH [QUESTIONS]]     # OUT needs about 12 GB
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from paired import write_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mapping"))

import fakes

from helpers.planted_traits import PoleJudge, number
from personascope.corpus import load_corpus, load_traits
from personascope.engines import Completion, Request
from personascope.mapping import (
    PROFILES,
    collect_rollouts,
    estimate_disk,
    open_run,
    plan_run,
)
from personascope.mapping._map import make_space
from personascope.mapping._publish import publish
from personascope.runs import Progress
from personascope.space import PersonaMap
from personascope.trait_vectors import TraitProfile, build_trait_design, resolve_trait_profile, run_traits

SHAPES = {"Gemma 2 27B": (46, 4608), "Qwen3 32B": (64, 5120), "Llama 3.3 70B": (80, 8192)}
"""Layers and width of the paper's three models."""
TOKENS = 300
"""Tokens of a response, for the estimate of the rows of the whole design."""
WARM = 1000
"""Number of responses after which memory is watched."""


class PlayingEngine(fakes.FakeEngine):
    """A model that is a hash and plays its role in half of the responses, so that every bucket is filled."""

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions, of which half are likelier under the role's prompt than without it."""
        for done in super().run(requests):
            plays = done.logprobs is not None and not done.id.startswith("default") and number(done.id) % 2
            yield replace(done, logprobs=done.logprobs + 2) if plays else done


class Memory:
    """Watch resident memory by stage."""

    def __init__(self) -> None:
        """Start with no stage."""
        self.peaks: dict[str, tuple[float, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[Callable[[Progress], None]]:
        """Record the lowest and highest memory of a stage; gives a callback for its progress."""
        process, stop, seen = psutil.Process(), threading.Event(), list[float]()
        begun = [False]

        def watch() -> None:
            while not stop.wait(0.2):
                if begun[0]:
                    seen.append(process.memory_info().rss / 1e9)

        def tell(progress: Progress) -> None:
            begun[0] = begun[0] or progress.done >= WARM
            if progress.done % 1000 == 0:
                now = process.memory_info().rss / 1e9
                print(f"{name}: {progress.done} of {progress.total}  {now:.2f} GB", flush=True)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield tell
        finally:
            stop.set()
            thread.join()
        self.peaks[name] = (min(seen, default=0.0), max(seen, default=0.0))


def gigabytes(folder: Path) -> float:
    """Return the size of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def estimated(n_layers: int, width: int) -> tuple[int, float, float]:
    """Return the folds of a role, and the estimated GB of the arrays of a map and of its traits."""
    engine = fakes.FakeEngine(n_layers, width)
    design = plan_run(engine.info, load_corpus(), PROFILES["paper"])
    roles = estimate_disk(engine.info, design)
    profile = resolve_trait_profile("paper")
    traits = build_trait_design(load_traits(), load_corpus().questions, profile, 0, info=engine.info)
    # As `personascope traits --dry-run` counts them.
    vectors = n_layers * width * (4 * len(traits.traits) * (traits.n_folds + 1) + 2 * profile_keep(profile))
    return design.n_folds, (roles.sums + roles.map + roles.kept) / 1e9, vectors / 1e9


def profile_keep(profile: TraitProfile) -> int:
    """Return the number of responses of traits whose activations are kept."""
    assert isinstance(profile.keep, int)
    return profile.keep


def rows_of(ratios: tuple[float, float], texts: float) -> list[str]:
    """Return a row for each of the paper's shapes: GB as estimated, and by what was measured."""
    rows = []
    for model, (n_layers, width) in SHAPES.items():
        folds, roles, traits = estimated(n_layers, width)
        scaled = [size * ratio for size, ratio in zip((roles, traits), ratios, strict=True)]
        rows.append(
            f"| {model} | {n_layers} x {width} | {folds} | {roles:.1f} | {traits:.1f} "
            f"| {roles + traits + texts:.1f} | {sum(scaled) + texts:.1f} |"
        )
    return rows


def main(out: Path, n_layers: int, width: int, questions: int) -> None:
    """Make the run, and write the page."""
    memory, start = Memory(), time.monotonic()
    engine, judge = PlayingEngine(n_layers, width), fakes.FakeJudge()
    design = plan_run(engine.info, load_corpus(), replace(PROFILES["paper"], questions=questions))
    whole = plan_run(engine.info, load_corpus(), PROFILES["paper"])
    assert design.n_folds == whole.n_folds
    with open_run(engine, design, out, judge) as folder:
        with memory.stage("responses of roles") as tell:
            collect_rollouts(engine, design, folder, judge, progress=tell)
        with memory.stage("map") as tell:
            tell(Progress("map", WARM, WARM))
            space, vectors = make_space(folder, design, engine.info, n_boot=50)
            publish(folder, design, engine.info, space, vectors=vectors)
    roles = gigabytes(out)
    profile = resolve_trait_profile("paper", questions=4)
    with memory.stage("responses of traits, and their space") as tell:
        result = run_traits(
            engine,
            PersonaMap.open(out),
            load_traits(),
            load_corpus().questions,
            profile,
            out=out / "traits" / "builtin",
            name="builtin",
            judge=PoleJudge(),
            progress=tell,
            n_draws=50,
        )
    both = gigabytes(out)
    per_row = estimate_disk(engine.info, whole, mean_tokens=TOKENS).rollouts / len(whole)
    every = build_trait_design(load_traits(), load_corpus().questions, resolve_trait_profile("paper"), 0)
    texts = (len(whole) + len(every)) * per_row / 1e9
    _, guess, guess_traits = estimated(n_layers, width)
    # The rows of this run, whose texts are short, count as arrays: they are few.
    ratios = (roles / guess, (both - roles) / guess_traits)
    stages = "\n".join(f"| {name} | {low:.2f} to {high:.2f} |" for name, (low, high) in memory.peaks.items())
    write_page(
        __file__,
        "Disk and memory of the paper's map",
        f"A simulated engine of {n_layers} layers of {width}: 275 roles with {len(design)} responses, and "
        f"240 traits with {result.collected.rollouts}, {design.n_folds} folds; "
        f"{(time.monotonic() - start) / 60:.0f} minutes.\n\n"
        f"| arrays on disk | GB | estimated, at most | ratio |\n|---|---|---|---|\n"
        f"| map and sums of roles | {roles:.2f} | {guess:.2f} | {ratios[0]:.2f} |\n"
        f"| traits | {both - roles:.2f} | {guess_traits:.2f} | {ratios[1]:.2f} |\n\n"
        f"| stage | resident memory, GB |\n|---|---|\n{stages}\n\n"
        "Arrays are proportional to layers and width, and do not grow with the responses. Texts do: "
        f"{len(whole)} and {len(every)} responses of {TOKENS} tokens take {texts:.2f} GB. So the whole "
        "design takes, by the estimate and by its ratio to what was measured here:\n\n"
        "| shape | layers and width | folds of a role | map, GB | traits, GB | with texts, at most | by the "
        "ratio |\n|---|---|---|---|---|---|---|\n" + "\n".join(rows_of(ratios, texts)),
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    shape = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else SHAPES["Gemma 2 27B"]
    main(Path(sys.argv[1]), *shape, int(sys.argv[4]) if len(sys.argv) > 4 else 12)
