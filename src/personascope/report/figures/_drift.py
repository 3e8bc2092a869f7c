"""Figures of persona dynamics, written as PNG, SVG or PDF by the file's suffix.

Positions are in units of the map: 0 is the mean role, 1 the default Assistant. Drift goes down.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from personascope.report.figures._data import Estimate
from personascope.report.figures._drift_data import (
    ClusterData,
    ClusterRow,
    PredictionData,
    PredictionPanel,
    ReplayData,
    ReplayPanel,
    TrajectoryData,
)
from personascope.report.figures._style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LINES,
    PALE,
    PURPLE,
    VERMILION,
    bars,
    draw_series,
    drawing,
    heading,
    percent,
)

POSITION = "Position (0 mean role, 1 default Assistant)"

_DOMAINS = {
    "coding": (BLUE, "-", "o"),
    "writing": (GREEN, "-", "^"),
    "therapy": (VERMILION, "-", "s"),
    "philosophy": (PURPLE, "-", "D"),
}
_QUOTED = 3  # messages that a cluster's row shows
_WIDTH = 100  # characters of a line of them


def trajectory_figure(path: Path | str, data: TrajectoryData) -> None:
    """Draw the mean position by turn, with one line and band per domain.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Mean positions with limits.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    with drawing(path, (8.2, 4.6)) as figure:
        below = "\n".join(["bands: 95% intervals over topics; n conversations", *data.notes])
        heading(figure, data.title, below)
        axes = figure.subplots()
        looks = _looks([line.name for line in data.lines])
        for line in data.lines:
            draw_series(axes, line.turns, line.position, looks[line.name], line.name)
        axes.set(xlabel="Turn", ylabel=POSITION)
        _exchanges(axes)
        _landmarks(axes)
        ends = [(line.turns[-1], line.position.values[-1]) for line in data.lines]
        names = [f"{_words(line.name)} (n = {_counts(line.n)})" for line in data.lines]
        _label_ends(figure, axes, ends, names, [looks[line.name][0] for line in data.lines])


def prediction_figure(path: Path | str, data: PredictionData) -> None:
    """Draw held-out predictions against actual values, with one panel per target.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Targets, predictions, and their scores and controls.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    count = len(data.panels)
    with drawing(path, (max(4.6 * count, 6.0), 6.4)) as figure:
        heading(
            figure, data.title, "each reply predicted by a fit that has not seen its group; 95% intervals"
        )
        looks = _looks([name for panel in data.panels for name in panel.domains])
        grid = figure.subplots(2, count, squeeze=False, height_ratios=(3.3, 1.15))
        for (axes, words), panel in zip(grid.T, data.panels, strict=True):
            _predicted(axes, panel, looks)
            words.set_axis_off()
            # The text lies over an empty panel, so the layout must not reserve space for it.
            words.text(
                0, 1, "\n".join(_said(panel)), va="top", fontsize=8.8, linespacing=1.4, parse_math=False
            ).set_in_layout(False)
        found = {}
        for axes in figure.axes:
            found.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
        legend = figure.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), 5)
        )
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)


def cluster_figure(path: Path | str, data: ClusterData) -> None:
    """Draw clusters of messages as a table: mean change with limits, counts, and messages near the centre.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Clusters to draw.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    quotes = [_quotes(row) for row in data.rows]
    heights = [len(lines) + 2.2 for lines in quotes]
    total = sum(heights)
    n, texts = sum(row.n for row in data.rows), sum(row.n_texts for row in data.rows)
    with drawing(path, (11.0, 1.5 + 0.165 * total)) as figure:
        low, high = data.spread_null
        heading(
            figure,
            data.title,
            f"n = {n:,} turns, {texts:,} different messages; bars: 95% intervals; grey: middle 95% of "
            f"as many messages at random\nhighest less lowest: {data.spread:.3g}, at random {low:.3g} to "
            f"{high:.3g}, p = {data.spread_p_value:.2g}",
        )
        left, right = figure.subplots(1, 2, width_ratios=(1, 2.1), sharey=True)
        middles: list[float] = []
        top = 0.0
        for row, lines, height in zip(data.rows, quotes, heights, strict=True):
            middle = top + height / 2
            middles.append(middle)
            left.barh(middle, row.null[1] - row.null[0], min(height, 4) * 0.5, row.null[0], color=PALE)
            left.errorbar(
                row.change.estimate, middle, xerr=bars([row.change]), fmt="o", color=BLUE, capsize=2.5
            )
            _quote(right, row, lines, top, height)
            top += height
            if top < total:
                for axes in (left, right):
                    axes.axhline(top, color=PALE, linewidth=0.7)
        left.set_yticks(middles, [f"{row.n:,} turns\n{row.n_texts:,} messages" for row in data.rows])
        left.tick_params(axis="y", length=0)
        left.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        left.set_ylim(total, 0)
        left.spines["left"].set_visible(False)
        left.set_xlabel("Mean change of position after them\n\u2190 away from the Assistant    toward \u2192")
        left.xaxis.set_major_locator(MaxNLocator(5))
        right.set_axis_off()
        right.set_xlim(0, 1)


def replay_figure(path: Path | str, data: ReplayData) -> None:
    """Draw plain and replayed conversations together, and where caps fired.

    A marker of the replay is filled if a cap fired; the strip below shows on what share of the tokens.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Positions in both runs, and the shares of capped tokens.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    columns = 2 if len(data.panels) == 4 else min(3, len(data.panels))
    rows = -(-len(data.panels) // columns)
    strips = any(share is not None for panel in data.panels for share in panel.fired)
    each = 2 if strips else 1
    with drawing(path, (max(3.5 * columns, 5.6), 1.3 + (3.6 if strips else 2.8) * rows)) as figure:
        single = all(max(panel.n) == 1 for panel in data.panels)
        rests = "n = 1 conversation a panel; each point is one reply"
        heading(figure, data.title, rests if single else "bands: 95% intervals over topics; n conversations")
        grid = figure.subplots(
            each * rows,
            columns,
            squeeze=False,
            sharex="col",
            height_ratios=[3.2, 1][:each] * rows,
        )
        for number in range(rows * columns):
            block, column = divmod(number, columns)
            axes = [grid[each * block + part, column] for part in range(each)]
            if number >= len(data.panels):
                for one in axes:
                    one.set_axis_off()
                continue
            _replayed(axes[0], data.panels[number], data)
            if strips:
                _strip(axes[1], data.panels[number])
            axes[-1].set_xlabel("Turn")
            axes[-1].tick_params(labelbottom=True)
            if strips and not column:
                axes[1].set_ylabel("Tokens\ncapped")
        tops = [grid[each * (i // columns), i % columns] for i in range(len(data.panels))]
        low, high = min(axes.get_ylim()[0] for axes in tops), max(axes.get_ylim()[1] for axes in tops)
        for axes in tops:
            axes.set_ylim(low, high)
            _landmarks(axes)
        # Label the figure instead of a panel, because the label is longer than a panel is high.
        figure.supylabel(POSITION, fontsize=9.5)
        figure.legend(*tops[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, dash and marker per domain: fixed for the paper's four, spare ones for others."""
    taken = [_DOMAINS[name] for name in names if name in _DOMAINS]
    spare = [look for look in LINES if look[0] not in {colour for colour, *_ in taken}] or list(LINES)
    spare += [(colour, "--", marker) for colour, _, marker in LINES]
    found: dict[str, tuple[str, str, str]] = {}
    for name in names:
        if name not in found:
            number = sum(other not in _DOMAINS for other in found)
            found[name] = _DOMAINS[name] if name in _DOMAINS else spare[number % len(spare)]
    return found


def _words(text: str) -> str:
    """Escape dollar signs, so that Matplotlib does not parse formulas."""
    return text.replace("$", r"\$")


def _counts(n: Sequence[int]) -> str:
    return f"{max(n):,}" if max(n) == min(n) else f"{max(n):,} to {min(n):,}"


def _exchanges(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.grid(axis="y")


def _landmarks(axes: Axes) -> None:
    """Draw lines at the mean role and the default if they are in range, without changing the limits."""
    low, high = axes.get_ylim()
    for value in (0.0, 1.0):
        if low <= value <= high:
            axes.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_ylim(low, high)


def _label_ends(
    figure: Figure,
    axes: Axes,
    ends: Sequence[tuple[float, float]],
    names: list[str],
    colours: Sequence[str],
) -> None:
    """Label each line at its right end, and move labels apart that would overlap."""
    figure.draw_without_rendering()
    step = 13 * figure.dpi / 72
    at = axes.transData.transform(ends)[:, 1]
    order = np.argsort(at)
    places = at[order].copy()
    # Move overlapping neighbours apart by half each until none overlap, so that labels stay near their lines.
    for _ in range(100):
        short = np.maximum(step - np.diff(places), 0)
        if not short.any():
            break
        places[:-1] -= short / 2
        places[1:] += short / 2
    x = max(x for x, _ in ends)
    for place, number in zip(places, order, strict=True):
        y = float(axes.transData.inverted().transform((0, place))[1])
        if ends[number][0] < x:
            colour = colours[number]
            axes.plot([ends[number][0], x], [ends[number][1], y], ":", color=colour, linewidth=1, zorder=0)
        axes.annotate(
            names[number],
            (x, y),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=colours[number],
            annotation_clip=False,
        )


def _two(value: float) -> str:
    """Format with two decimals, without a minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _with_limits(found: Estimate) -> str:
    return f"{_two(found.estimate)} ({_two(found.low)} to {_two(found.high)})"


def _predicted(axes: Axes, panel: PredictionPanel, looks: dict[str, tuple[str, str, str]]) -> None:
    actual, predicted = np.array(panel.actual), np.array(panel.predicted)
    domains = np.array(panel.domains)
    for name in dict.fromkeys(panel.domains):
        here = domains == name
        colour, _, marker = looks[name]
        axes.scatter(
            actual[here],
            predicted[here],
            s=14 if len(actual) < 1000 else 7,
            marker=marker,
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=_words(name),
        )
    both = np.concatenate([actual, predicted])
    margin = 0.04 * float(np.ptp(both)) or 0.1
    limits = (float(both.min()) - margin, float(both.max()) + margin)
    axes.plot(limits, limits, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set(xlim=limits, ylim=limits, xlabel="Actual", ylabel="Predicted while held out")
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.set_title(f"{panel.name}\nheld-out $R^2$ = {_with_limits(panel.held_out)}")


def _said(panel: PredictionPanel) -> list[str]:
    """Return the lines of text under a panel: sample size, controls and baselines."""
    alone = {name: _two(value) for name, value in panel.baselines.items()}
    return [
        f"n = {len(panel.actual):,} replies; {panel.held_together}, each held out once",
        f"targets shuffled, {panel.shuffles} times: {_two(panel.shuffled[0])} to {_two(panel.shuffled[1])}",
        "without messages: " + ", ".join(f"{name} {value}" for name, value in alone.items()),
        f"beyond the domain: {_with_limits(panel.within_domain)}",
        f"    targets shuffled in it: {_two(panel.within_shuffled[0])} to {_two(panel.within_shuffled[1])}",
        f"in sample, which is no evidence: {_two(panel.in_sample)}",
    ]


def _quotes(row: ClusterRow) -> list[str]:
    """Return the quoted messages of a cluster's row, each cut to two lines."""
    lines: list[str] = []
    for message in row.nearest[:_QUOTED]:
        quoted = f"\u201c{' '.join(message.split())}\u201d"
        wrapped = textwrap.wrap(quoted, _WIDTH, subsequent_indent="  ")
        if len(wrapped) > 2:
            wrapped = [wrapped[0], f"{wrapped[1][: _WIDTH - 3].rstrip()} \u2026\u201d"]
        lines += wrapped
    return lines


def _quote(axes: Axes, row: ClusterRow, lines: Sequence[str], top: float, height: float) -> None:
    shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in row.domains.items())
    start = top + (height - len(lines) - 1) / 2
    text: dict[str, Any] = {"va": "center", "parse_math": False, "fontsize": 8.8}
    # The text lies over an empty panel, so the layout must not reserve space for it.
    axes.text(0, start + 0.5, textwrap.shorten(shares, 90), color=GREY, **text).set_in_layout(False)
    for number, line in enumerate(lines, start=1):
        axes.text(0, start + number + 0.5, line, color=INK, **text).set_in_layout(False)


def _replayed(axes: Axes, panel: ReplayPanel, data: ReplayData) -> None:
    draw_series(axes, panel.turns, panel.plain, (VERMILION, "-", "s"), _words(data.plain))
    draw_series(axes, panel.turns, panel.planned, (BLUE, "-", "o"), _words(data.planned))
    hollow = [i for i, share in enumerate(panel.fired) if not share]
    # The layout would fail on an empty unclipped line, which has no bounds.
    if hollow:
        axes.plot(
            [panel.turns[i] for i in hollow],
            [panel.planned.values[i] for i in hollow],
            "o",
            color=BLUE,
            markerfacecolor="white",
            clip_on=False,
        )
    n = "" if max(panel.n) == 1 else f" (n = {_counts(panel.n)})"
    axes.set_title(textwrap.fill(f"{_words(panel.name)}{n}", 38))
    _exchanges(axes)


def _strip(axes: Axes, panel: ReplayPanel) -> None:
    shares = [math.nan if share is None else share for share in panel.fired]
    axes.bar(panel.turns, shares, 0.7, color=BLUE)
    axes.set_ylim(0, 1)
    percent(axes, full=True)
    axes.set_yticks([0, 0.5, 1])
    _exchanges(axes)
