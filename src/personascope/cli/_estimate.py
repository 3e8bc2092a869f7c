"""Printed estimate of a command: its work in parts, its total, and the files that it would write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from personascope.cli._console import err, out, say
from personascope.cli._grid import grid
from personascope.cli._json import hand_over

if TYPE_CHECKING:
    from personascope.api import WorkEstimate

_TABLES = (
    (
        "What it would take; the time is from a short probe on this model",
        {
            "responses": "responses",
            "passes": "texts read",
            "prompt_tokens": "tokens read",
            "response_tokens": "tokens written",
            "seconds": "minutes",
        },
    ),
    (
        "Calls of the judge, or of who plays the user",
        {"calls": "calls", "sent": "tokens sent", "received": "tokens received", "cost": "cost"},
    ),
)
"""Title, and value of a part of the work -> its column; a column is left out where no part has any."""


def print_estimate(estimate: Callable[[], WorkEstimate]) -> None:
    """Estimate what a command would take, and print it.

    Args:
        estimate: Function that makes the estimate, from a probe that may take a minute.
    """
    say("timing a few of its requests ...")
    found = estimate()
    total = found.total
    out.print(f"{found.name}: nothing is run or written")
    for title, columns in _TABLES:
        shown = {name: told for name, told in columns.items() if getattr(total, name) not in (None, 0)}
        if not shown:
            continue
        table = grid(title, "part", *shown.values(), words=("part",))
        steps = [step for step in found.steps if any(getattr(step, name) for name in shown)]
        for step in (*steps, *([total] if len(steps) > 1 else [])):
            table.add_row(step.name, *(_cell(name, getattr(step, name)) for name in shown))
        out.print(table)
    for remark in found.remarks:
        err.print(remark, markup=False, soft_wrap=True)
    if not found.files:
        out.print("would write no file")
    for path in found.files:
        out.print(f"would write {path}", markup=False, soft_wrap=True)
    whole = {name: getattr(total, name) for _, columns in _TABLES for name in columns}
    hand_over(
        estimate=found.records(),
        total=whole,
        remarks=list(found.remarks),
        files=[str(path) for path in found.files],
    )


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "seconds":
        return f"{value / 60:,.1f}"
    return f"{value:,.2f}" if name == "cost" else f"{value:,}"
