"""Paired, interleaved timing of several ways to do the same work, and a page with the result."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch


def machine() -> str:
    """Return the machine and the versions in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = names[0] if names else name
    if torch.cuda.is_available():
        name += f", {torch.cuda.get_device_name()}"
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    return f"{name}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"


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


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> tuple[float, float, float]:
    """Return median, lowest and highest ratio of one way to another, pair by pair."""
    pairs = [a / b for a, b in zip(seconds[name], seconds[to], strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


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
