"""Loadings of the shared roles on the main components of two maps, a panel for each pair of maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personascope.comparison import MapComparison, PairComparison
from personascope.report.figures._style import BLUE, INK, PALE, drawing, heading

_COLUMNS = 3
_NAMED = 3
"""Number of roles at each end of the first map's component that are named."""


def comparison_figure(path: Path | str, found: MapComparison) -> None:
    """Draw the roles' loadings on PC1, the second map's against the first's, for every pair of maps.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        found: Comparison.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    columns = min(_COLUMNS, len(found.pairs))
    rows = -(-len(found.pairs) // columns)
    below = "; ".join(f"{one.label}: {one.name}, layer {one.layer}" for one in found.maps)
    with drawing(path, (3.4 * columns + 0.8, 3.3 * rows + 0.7)) as figure:
        heading(figure, "Loadings of the shared roles on PC1", below)
        grid: Any = figure.subplots(rows, columns, squeeze=False)
        for number, axes in enumerate(grid.flat):
            if number < len(found.pairs):
                _draw(axes, found.pairs[number])
            else:
                axes.set_axis_off()


def _draw(axes: Any, pair: PairComparison) -> None:
    first, second = (np.array(side) for side in pair.pc1)
    for set_line in (axes.axhline, axes.axvline):
        set_line(0, color=PALE, linewidth=1, zorder=0)
    axes.scatter(first, second, s=10, color=BLUE, alpha=0.7, linewidths=0)
    order = np.argsort(first, kind="stable")
    for index in dict.fromkeys([*order[:_NAMED].tolist(), *order[-_NAMED:].tolist()]):
        axes.text(
            first[index], second[index], f" {pair.roles[index]}", fontsize=7, color=INK, parse_math=False
        )
    figure = pair.components.order[0]
    axes.set_title(
        f"|r| {figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f}), null {figure.null_q95:.2f}, "
        f"n = {len(pair.roles)}",
        fontsize=8,
    )
    axes.set(xlabel=f"PC1 of {pair.first}", ylabel=f"PC1 of {pair.second}")
    axes.tick_params(labelsize=7)
