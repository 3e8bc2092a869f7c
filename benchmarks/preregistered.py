"""The table of docs/preregistration.md: every criterion on every model, decided by its rule.

    python benchmarks/preregistered.py RUN [RUN ...]        # Markdown

Beside a run folder lie the outputs of its evaluations with ``--json``: ``RUN.steer.json``, ``RUN.cap.json``,
``RUN.capability.json``, ``RUN.coherence.json``. A criterion whose output is missing was not run, and the
table says so. C13 is read by people and is not decided here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personascope import api
from personascope.corpus import load_corpus
from personascope.space import PersonaMap

WORLDLY = {"function", "profession", "scholarship"}
OTHERWORLDLY = {"myth", "spirituality", "creature", "abstraction", "collective"}
DRAWS = 10_000
FEWEST = 5
"""Mapped roles of each set without which their order is not decided."""
LOSS = 0.05
GRADES = {"found": "met", "weak": "could not be decided", "not found": "not met"}


@dataclass(frozen=True)
class Decision:
    """Whether a criterion is met, and the figures that say so."""

    word: str
    figures: str

    def __str__(self) -> str:
        return f"**{self.word}**: {self.figures}" if self.figures else self.word


NOT_RUN = Decision("not run", "")


def decide(met: bool, failed: bool, figures: str) -> Decision:
    """Return a decision; what is neither met nor failed could not be decided."""
    return Decision("met" if met else "not met" if failed else "could not be decided", figures)


def of_the_map(run: Path) -> dict[str, Decision]:
    """Decide C1 to C5."""
    found = api.open_map(run)
    verdict = found.verdict()
    figures = {
        "C1": "; ".join(verdict.axis.reasons[:2]),
        "C2": "; ".join(verdict.main.reasons[:2]),
        "C3": "; ".join(verdict.default.reasons[:2]),
    }
    answers = dict(zip(figures, (verdict.axis, verdict.main, verdict.default), strict=True))
    decisions = {
        name: Decision(GRADES.get(answer.grade, "could not be decided"), figures[name])
        for name, answer in answers.items()
    }
    played = None if found.checks is None else found.checks.played
    if played is not None:
        decisions["C4"] = decide(played >= 0.33, played < 0.15, f"{played:.2f}")
    return decisions | {"C5": order_of_ends(found)}


def order_of_ends(found: PersonaMap) -> Decision:
    """Decide C5: mean position of worldly roles less that of otherworldly ones."""
    group = {role.name: role.group for role in load_corpus().roles}
    layer = found.middle_layer
    places = dict(zip(found.roles, found.to_units(found.stats.projections[layer], layer), strict=True))
    sides = [
        np.array([place for role, place in places.items() if group[role] in groups])
        for groups in (WORLDLY, OTHERWORLDLY)
    ]
    if min(len(side) for side in sides) < FEWEST:
        return Decision(
            "could not be decided", f"{len(sides[0])} worldly and {len(sides[1])} otherworldly roles mapped"
        )
    rng = np.random.default_rng(0)
    drawn = [side[rng.integers(len(side), size=(DRAWS, len(side)))].mean(1) for side in sides]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    estimate = sides[0].mean() - sides[1].mean()
    counts = f"{len(sides[0])} and {len(sides[1])} roles"
    return decide(low > 0, high <= 0, f"{estimate:+.2f} ({low:+.2f} to {high:+.2f}), {counts}")


def read(run: Path, name: str) -> list[dict[str, Any]] | None:
    """Return the rows of an evaluation, or None if it was not run."""
    path = run.with_name(f"{run.name}.{name}.json")
    if not path.exists() or not path.read_text().strip():
        return None
    rows: list[dict[str, Any]] = json.loads(path.read_text())["results"]
    return rows


def changed(rows: list[dict[str, Any]] | None, measure: str, sign: int, strength: float | None) -> Decision:
    """Decide whether a share changes in a direction: an effect, or an interval that excludes ``LOSS`` of it.

    Args:
        rows: Rows of the evaluation.
        measure: Share that is looked at.
        sign: +1 if it is to become larger, -1 if smaller.
        strength: Strength of the axis; None for the cap, which is the only plan.
    """
    if rows is None:
        return NOT_RUN
    plain = next(row for row in rows if row["kind"] == "plain" and row["measure"] == measure)
    (row,) = (
        row
        for row in rows
        if row["measure"] == measure
        and row["kind"] in ("axis", "plan")
        and (strength is None or row["strength"] == strength)
    )
    least, _, high = sorted_by(sign, row)
    figures = (
        f"{plain['share']:.2f} to {row['share']:.2f}, {row['less_plain']:+.2f} "
        f"({row['less_plain_low']:+.2f} to {row['less_plain_high']:+.2f}); {row['conclusion']}"
    )
    return decide(bool(row["effect"]) and least > 0, high < LOSS, figures)


def sorted_by(sign: int, row: dict[str, Any]) -> tuple[float, float, float]:
    """Return estimate and interval of a difference from no plan, turned so that the asked sign is +."""
    ends = sorted(sign * row[f"less_plain_{end}"] for end in ("low", "high"))
    return sign * row["less_plain"], ends[0], ends[1]


def kept(rows: list[dict[str, Any]] | None, measure: str | None, sign: int) -> Decision:
    """Decide C11 and C12: the cap costs less than 0.10 of accuracy or coherence."""
    if rows is None:
        return NOT_RUN
    (row,) = (
        row
        for row in rows
        if row.get("kind", "plan") == "plan"
        and row["less_plain"] is not None
        and (measure is None or row["measure"] == measure)
        and not is_control(row["condition"])
    )
    _, low, high = sorted_by(sign, row)
    figures = f"{row['less_plain']:+.3f} ({row['less_plain_low']:+.3f} to {row['less_plain_high']:+.3f})"
    return decide(low > -0.10, high < -LOSS, figures)


def is_control(condition: str) -> bool:
    """Say whether a condition is a control by its name."""
    return condition.startswith(("random", "shuffled", "role-span"))


def decisions(run: Path) -> dict[str, Decision]:
    """Decide all criteria of one run."""
    steer, cap = read(run, "steer"), read(run, "cap")
    return of_the_map(run) | {
        "C6": changed(steer, "mystical", +1, -0.2),
        "C7": changed(steer, "assistant", -1, -0.2),
        "C8": changed(steer, "assistant", +1, 0.2),
        "C9": changed(cap, "assistant", +1, None),
        "C10": changed(cap, "mystical", -1, None),
        "C11": kept(read(run, "capability"), None, +1),
        "C12": kept(read(run, "coherence"), "incoherent", -1),
    }


def main(runs: list[Path]) -> None:
    """Print the table."""
    columns = {run.name: decisions(run) for run in runs}
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for number in range(1, 13):
        name = f"C{number}"
        print(f"| {name} | " + " | ".join(str(found.get(name, NOT_RUN)) for found in columns.values()) + " |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
