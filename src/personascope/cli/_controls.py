"""Printed comparisons with controls: a line for each kind, and what may be called an effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from personascope.cli._console import out
from personascope.cli._grid import grid

if TYPE_CHECKING:
    from personascope.evals import Conclusion
    from personascope.stats import AgainstDraws

Compared = tuple[str, str, Mapping[str, "AgainstDraws"], "Conclusion | None"]
"""Condition, measure, kind of control -> comparison, and conclusion."""


def print_comparisons(rows: Iterable[Compared]) -> None:
    """Print the plans' effects against each kind of control; nothing without controls."""
    table = grid(
        "against controls of the same strength, less each kind pooled",
        *("measure", "effect", "control", "their effects", "less", "95%", "beaten"),
        words=("measure", "control", "their effects"),
    )
    last, said = "", list[str]()
    for condition, measure, against, conclusion in rows:
        if not against or conclusion is None:
            continue
        if condition != last:
            table.add_section()
            table.add_row(f"[bold]{condition}[/]")
        last = condition
        for kind, found in against.items():
            first = kind == next(iter(against))
            table.add_row(
                measure if first else "",
                f"{found.effect:+.3f}" if first else "",
                kind.replace("_", "-"),
                ", ".join(f"{draw:+.3f}" for draw in found.draws),
                f"{found.pooled.estimate:+.3f}",
                f"{found.pooled.low:+.3f} to {found.pooled.high:+.3f}",
                "yes" if kind in conclusion.beaten else "no",
            )
        said.append(f"{condition}, {measure}: {conclusion.words}")
    if last:
        out.print(table)
    for line in said:
        out.print(line, markup=False)
