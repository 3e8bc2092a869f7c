"""Printed learning curve of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personascope.cli._console import out
from personascope.cli._tables import plain_table

if TYPE_CHECKING:
    from personascope.space import LearningCurve, PersonaMap

ROWS = 12
"""Number of looks to print at most."""


def stopped_by(curve: LearningCurve) -> str:
    """Return what ended an adaptive run; "" for a fixed design or a run that has not ended."""
    if not curve.stop:
        return ""
    asked = ", ".join(one for one in curve.until if one.split("=")[0] in ("axis", "roles"))
    missed = f"; {asked} was not reached" if asked and not curve.reached else ""
    what = "the whole design was asked" if curve.stop == "maximum" else f"stopped by {curve.stop}"
    return f"{what} after {len(curve.points)} rounds{missed}"


def print_curve(persona_map: PersonaMap, *, table: bool) -> None:
    """Print what the map's looks found: the last as a sentence, and all of them as a table."""
    curve = persona_map.curve
    if curve is None:
        out.print("learning curve: not recorded")
        return
    if stopped_by(curve):
        out.print(stopped_by(curve), markup=False)
    if curve.summary:
        out.print(f"precision at layer {curve.layer}: {curve.summary}", markup=False)
    if not table or not curve.points:
        return
    shown = plain_table(
        "Learning curve: cosine of halves, its bound, half-width of the roles' positions",
        "round", "asked", "responses", "tokens", "roles", "halves", "bound", "median", "widest",
    )  # fmt: skip
    step = max(1, -(-len(curve.points) // ROWS))
    for point in curve.points[len(curve.points) - 1 :: -step][::-1]:
        numbers = (point.split_half, point.split_half_low, point.half_width, point.widest)
        shown.add_row(
            str(point.round),
            point.kind,
            f"{point.rollouts:,}",
            f"{point.tokens:,}",
            str(point.vectors),
            *("-" if value is None else f"{value:.2f}" for value in numbers),
        )
    out.print(shown)
