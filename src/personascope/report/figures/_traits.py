"""Traits along the axis: the cosines of their vectors, with intervals and the null."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personascope.errors import UsageError
from personascope.report.figures._style import BLUE, GREY, PALE, drawing, heading
from personascope.space import TraitPlace


def traits_figure(path: Path | str, places: Sequence[TraitPlace], *, title: str, ends: int = 15) -> None:
    """Draw the traits nearest either end of the axis, as cosines with 95% intervals.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        places: Traits, from the Assistant's end of the axis to the other.
        title: Title of the figure.
        ends: Number of traits at each end.

    Raises:
        UsageError: If there is no trait, or the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    if not places:
        raise UsageError("there is no trait to draw", hint="run traits on the map first")
    shown = list(places) if len(places) <= 2 * ends else [*places[:ends], *places[-ends:]]
    heights = np.arange(len(shown))[::-1]
    null = np.array([one.null for one in shown])
    with drawing(path, (6.4, 1.4 + 0.21 * len(shown))) as figure:
        heading(
            figure, title, f"{len(shown)} of {len(places)} traits; grey: |cosine| with poles permuted, 95%"
        )
        axes = figure.subplots()
        axes.axvline(0, color=PALE, linewidth=1, zorder=0)
        axes.barh(
            heights, 2 * np.nan_to_num(null), left=-np.nan_to_num(null), height=0.7, color=PALE, zorder=0
        )
        axes.hlines(heights, [o.low for o in shown], [o.high for o in shown], color=GREY, linewidth=1)
        axes.scatter([o.cosine for o in shown], heights, s=16, color=BLUE, zorder=2)
        axes.set_yticks(heights, [one.name for one in shown], fontsize=8, parse_math=False)
        axes.set(xlabel="Cosine with the axis (positive: toward the Assistant)")
        axes.margins(y=0.02)
