"""Paired, interleaved timing of several ways to do the same work, and a page with the result.

A host that other work shares makes whole runs differ by more than what is measured. Three things help: taking
turns step by step instead of run by run (`interleave_steps`), so that what disturbs one way disturbs the
others too; the same way once more under another name, whose ratio says how far two equal ways come out apart;
and the share of a run that is spent inside some functions (`shares`).
"""

from __future__ import annotations

import platform
import random
import shutil
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from scipy import stats


def machine() -> str:
    """Return the machine and the versions in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    packages = ["torch", "transformers"]
    if torch.cuda.is_available():
        name += f", {_gpu()}"
        packages.append("triton")
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    return f"{name}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"


def _gpu() -> str:
    """Return the first GPU, its memory, and its driver."""
    found = torch.cuda.get_device_properties(0)
    asked = shutil.which("nvidia-smi")
    drivers = ""
    if asked:
        query = [asked, "--query-gpu=driver_version", "--format=csv,noheader"]
        drivers = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    driver = drivers.splitlines()[0] if drivers else "unknown"
    return f"{found.name} ({found.total_memory / 2**30:.0f} GiB, driver {driver}, CUDA {torch.version.cuda})"


def _version(package: str) -> str:
    """Return a package's version; some builds of it have a distribution of another name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def interleave(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Run every way once unmeasured, then all of them in turn, ``repeats`` times; seconds of each run.

    The order turns round from one repeat to the next, so that a drift of the machine favours none.
    """
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in list(ways)[:: 1 if repeat % 2 == 0 else -1]:
            begun = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - begun)
            print(f"{repeat + 1}/{repeats} {name}: {seconds[name][-1]:.1f} s", flush=True)
    return seconds


def interleave_steps(
    ways: Mapping[str, Callable[[], Iterator[object]]], repeats: int
) -> dict[str, list[float]]:
    """As `interleave`, for ways that yield after every step of theirs: all take turns step by step.

    Every way needs an engine of its own, since all of them are under way at the same time. The order is
    drawn anew each turn: a way that always came first or last would now and then run twice in a row, on a
    cache that is warm for it alone.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):
        spent = dict.fromkeys(ways, 0.0)
        running = {name: way() for name, way in ways.items()}
        while running:
            for name in order.sample(list(running), len(running)):
                begun = time.perf_counter()
                try:
                    next(running[name])
                except StopIteration:
                    del running[name]
                spent[name] += time.perf_counter() - begun
        # The first run warms up.
        if repeat >= 0:
            for name, found in spent.items():
                seconds[name].append(found)
            shown = ", ".join(f"{name} {found:.2f}" for name, found in spent.items())
            print(f"{repeat + 1}/{repeats} {shown} s", flush=True)
    return seconds


def whole(way: Callable[[], Iterator[object]]) -> Callable[[], None]:
    """Return a way that yields step by step as one that runs to its end."""
    return lambda: deque(way(), maxlen=0).clear()


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> tuple[float, float, float]:
    """Return median, lowest and highest ratio of one way to another, pair by pair."""
    pairs = [a / b for a, b in zip(seconds[name], seconds[to], strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


def interval(seconds: Mapping[str, list[float]], name: str, to: str) -> tuple[float, float]:
    """Return a 95% interval of the median ratio from order statistics, whatever the distribution."""
    pairs = [a / b for a, b in zip(seconds[name], seconds[to], strict=True)]
    found = stats.quantile_test(pairs, q=1.0, p=0.5).confidence_interval(0.95)
    return float(found.low), float(found.high)


class Clock:
    """Adds up the time that is spent inside some functions, not counting one inside another twice."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.seconds = 0.0
        self._depth = 0

    @contextmanager
    def inside(self, places: Sequence[tuple[Any, str]]) -> Iterator[None]:
        """Time functions while the context lasts.

        Args:
            places: Module or class, and the name of a function in it.
        """
        kept = [vars(owner)[name] for owner, name in places]
        for (owner, name), function in zip(places, kept, strict=True):
            setattr(owner, name, self._timed(function))
        try:
            yield
        finally:
            for (owner, name), function in zip(places, kept, strict=True):
                setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            self._depth += 1
            begun = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - begun

        return timed


def shares(run: Callable[[], object], places: Sequence[tuple[Any, str]], repeats: int) -> list[float]:
    """Return the share of each run's time that is spent inside some functions (see `Clock.inside`)."""
    found: list[float] = []
    for _ in range(repeats):
        clock = Clock()
        with clock.inside(places):
            begun = time.perf_counter()
            run()
            found.append(clock.seconds / (time.perf_counter() - begun))
    return found


def table(seconds: Mapping[str, list[float]], to: str) -> str:
    """Return a Markdown table: seconds of every way, and its ratio to one of them."""
    lines = [f"| way | seconds, median | range | ratio to {to} | range |", "|---|---|---|---|---|"]
    for name, values in seconds.items():
        middle, low, high = ratio(seconds, name, to)
        lines.append(
            f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} "
            f"| {middle:.3f} | {low:.3f} to {high:.3f} |"
        )
    return "\n".join(lines)


def write_page(script: str, title: str, body: str) -> None:
    """Write the page beside the script, and print it."""
    path = Path(script).with_suffix(".md")
    text = f"# {title}\n\n`python benchmarks/{Path(script).name}` on {machine()}\n\n{body}\n"
    path.write_text(text, encoding="utf-8")
    print(text)
