"""Printed statistics of judging, for every command that judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from personascope.cli._console import err, out

if TYPE_CHECKING:
    from personascope.judge import JudgeStats


def print_judging(name: str, stats: JudgeStats) -> None:
    """Print one line for each judge that sent calls, had errors, or belongs to a chain."""
    for judge, one in (stats.by_judge or {name: stats}).items():
        parts: list[str] = []
        if one.calls:
            parts.append(f"{one.calls} calls, {one.retries} of them again")
            parts.append(f"{one.prompt_tokens:,} tokens sent, {one.completion_tokens:,} received")
        if one.cached:
            parts.append(f"{one.cached} from the cache")
        if one.cost is not None:
            parts.append(f"cost {one.cost:.4f}")
        if one.errors:
            parts.append("errors: " + ", ".join(f"{kind} {count}" for kind, count in one.errors.items()))
        if parts or stats.by_judge:
            out.print(f"judge {judge}: {'; '.join(parts) or 'nothing to pay'}", markup=False)
    filtered = stats.errors.get("filtered", 0)
    if filtered and not stats.by_judge:
        err.print(
            f"[yellow]filtered:[/] {filtered} texts; --fallback-judge asks a second judge for them",
            soft_wrap=True,
        )
    if len(stats.by_judge) > 1 and stats.cost is not None:
        out.print(f"judges together: cost {stats.cost:.4f}")


def judged_by(counts: Mapping[str, int]) -> str:
    """Return the number of labels of each judge as text, most first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)
