"""All pairs of some maps compared, and each map with itself on other questions, as tables.

    python benchmarks/compare_models.py RUN RUN [RUN ...]     # writes compare_models.md

Each cell is the figure, its 95% interval over the shared roles, and in brackets the 95% quantile of the null
of permuted roles. The last table is the most that two maps of these runs could agree: each run is cut into
two halves of the questions of every prompt (`compare_halves.py`).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from compare_halves import half_map

from personascope import api
from personascope.errors import PersonascopeError

PAGE = Path(__file__).with_suffix(".md")
FIGURES = (
    ("PC k with PC k", "PC1", "PC1 with PC1"),
    ("PC k with PC k", "PC2", "PC2 with PC2"),
    ("best one-to-one assignment", "mean of 5", "assigned, mean of 5"),
    ("best rotation", "all 5 (Procrustes)", "Procrustes"),
    ("best rotation", "canonical 1", "canonical 1"),
    ("roles along the axes", "cosine, Pearson", "cosine with the axis, Pearson"),
    ("roles along the axes", "cosine, Spearman", "cosine with the axis, Spearman"),
    ("roles along the axes", "position, Pearson", "position on the axis, Pearson"),
    ("roles along the axes", "position, Spearman", "position on the axis, Spearman"),
    ("same coordinates", "cosine of the axes", "cosine of the axes"),
    ("same coordinates", "overlap of 5 components", "overlap of 5 components"),
)
APART = (
    ("shared roles below the default", "on PC1", "roles below the default, PC1"),
    ("dimensionality of the shared roles", "components for 70%", "components for 70%"),
)


def name_of(found: Any) -> str:
    """Return a short name of a map's model."""
    return found.model.id.split("/")[-1].removesuffix(".gguf").removesuffix("-q4_k_m")


def cells(pair: Any) -> dict[str, str]:
    """Return the figures of a pair of maps by name."""
    found: dict[str, str] = {"shared roles": str(len(pair.roles))}
    between = {(row.group, row.name): row.figure for row in pair.between}
    for group, name, title in FIGURES:
        if (one := between.get((group, name))) is not None:
            found[title] = f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f}) [{one.null_q95:.2f}]"
    apart = {(row.group, row.name): row for row in pair.apart}
    for group, name, title in APART:
        row = apart[group, name]
        shown = "{:.0%}" if row.percent else "{:.0f}"
        found[title] = " and ".join(shown.format(one.value) for one in (row.figure.first, row.figure.second))
    p_values = [row.figure.p_value for row in pair.between if row.figure.p_value is not None]
    found["figures with p below 0.05"] = f"{sum(p < 0.05 for p in p_values)} of {len(p_values)}"
    return found


def table(columns: dict[str, dict[str, str]]) -> list[str]:
    """Return a table with a row for each figure; what a pair has not is a dash."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    return [
        f"| figure | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {name} | {' | '.join(one.get(name, '-') for one in columns.values())} |" for name in names),
    ]


def main(runs: list[Path]) -> None:
    """Write the page."""
    maps = [api.open_map(run) for run in runs]
    names = [name_of(found) for found in maps]
    lines = [
        "# Maps of several models, compared",
        "",
        "`python benchmarks/compare_models.py RUN ...`; what the cells are stands there.",
        "",
        "| map | layer | roles | played | verdict | PC1 follows | reliability of the roles on the axis |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in zip(names, maps, strict=True):
        layer, checks = found.middle_layer, found.checks
        played = "-" if checks is None or checks.played is None else f"{checks.played:.0%}"
        low, high = found.stats.role_reliability_interval[layer]
        follows = "; ".join(text for text in found.verdict().warnings if "PC1" in text) or "-"
        lines.append(
            f"| {name} | {layer} of {found.n_layers} | {len(found.roles)} | {played} "
            f"| {found.verdict().headline} | {follows} "
            f"| {found.stats.role_reliability[layer]:.0%} ({low:.0%} to {high:.0%}) |"
        )
    pairs: dict[str, dict[str, str]] = {}
    few: list[str] = []
    for second in range(len(maps)):
        for first in range(second):
            title = f"{names[first]} and {names[second]}"
            try:
                (pair,) = api.compare([maps[first], maps[second]]).pairs
            except PersonascopeError as error:
                few.append(f"{title}: {error}")
                continue
            pairs[title] = cells(pair)
    lines += ["", "## Pairs", "", *table(pairs), *(["", *few] if few else [])]
    halves: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in zip(names, runs, strict=True):
            two = [half_map(run, half, Path(folder) / f"{name}{half}") for half in (0, 1)]
            try:
                (pair,) = api.compare(two).pairs
            except PersonascopeError as error:
                halves[name] = {"shared roles": str(error)}
                continue
            halves[name] = cells(pair)
    lines += ["", "## Each map with itself, on other questions", "", *table(halves), ""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
