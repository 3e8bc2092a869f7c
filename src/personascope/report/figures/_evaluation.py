"""Figures of evaluations, written as PNG, SVG or PDF by the file's suffix.

Every figure states its sample size, draws limits as bands or bars, and shows every kind of control next to
the axis. Colours are distinguishable with any colour vision, and markers, dashes and hatches without colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from personascope.report.figures._data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    SusceptibilityData,
)
from personascope.report.figures._style import (
    BLUE,
    CONTROL_LOOKS,
    GREY,
    INK,
    LABEL_LOOKS,
    LINES,
    PALE,
    VERMILION,
    bars,
    count_controls,
    draw_controls,
    draw_series,
    drawing,
    heading,
    looks,
    percent,
)

SIGNS = "strength: fraction of the mean norm, positive toward the Assistant"
STRENGTH = "Steering strength (fraction of the mean norm)\n\u2190 away from the Assistant    toward \u2192"


def susceptibility_figure(path: Path | str, data: SusceptibilityData) -> None:
    """Draw role susceptibility: stacked label shares, and selected shares next to controls.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Shares with limits.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    with drawing(path, (10.4, 4.7)) as figure:
        heading(
            figure,
            data.title,
            f"n = {data.n:,} answers of {data.n_roles} roles at each strength; {_bands(bool(data.controls))}",
        )
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.12))
        place = np.arange(len(data.strengths))
        bottom = np.zeros(len(place))
        for (label, shares), (colour, hatch) in zip(
            data.shares.items(), looks(list(data.shares)), strict=True
        ):
            left.bar(
                place,
                shares,
                0.86,
                bottom,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.4,
                label=label,
            )
            bottom += shares
        left.set_xticks(place, [_signed(s) for s in data.strengths], rotation=45 if len(place) > 9 else 0)
        left.set(title="a  Labels of the answers", xlabel=STRENGTH, ylabel="Share of answers")
        percent(left, full=True)
        handles, labels = left.get_legend_handles_labels()
        left.legend(
            handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4
        )

        x_controls = data.control_strengths or data.strengths
        colours = {
            label: LABEL_LOOKS[label][0] if label in LABEL_LOOKS else LINES[number % len(LINES)][0]
            for number, label in enumerate(data.lines)
        }
        for number, (label, line) in enumerate(data.lines.items()):
            _, dash, marker = LINES[number % len(LINES)]
            draw_series(right, data.strengths, line, (colours[label], dash, marker), f"{label}, axis")
        for label, kinds in data.controls.items():
            draw_controls(right, x_controls, kinds, colours[label], f"{label}, ")
        if data.incoherent is not None:
            right.plot(
                data.strengths, data.incoherent, ":", color=INK, linewidth=1.6, label="incoherent, axis"
            )
        right.axvline(0, color=GREY, linewidth=0.7, zorder=0)
        right.grid(axis="y")
        right.set(
            title=f"b  Axis{' and controls' if data.controls else ''}",
            xlabel=STRENGTH,
            ylabel="Share of answers",
        )
        percent(right, full=True)
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=3)


def pareto_figure(path: Path | str, data: ParetoData) -> None:
    """Draw a sweep: benefit against change in capability, and against KL, with the Pareto front.

    Plans on the front and the recommended plan are numbered, with a legend at the side. The front is that of
    benefit and capability, and its plans are marked in both panels; without prices there is one panel.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Plans, Pareto front and controls.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    chosen = None if data.recommended is None else data.points[data.recommended]
    indices: set[int] = {*data.front, *(() if data.recommended is None else (data.recommended,))}
    named = sorted(indices, key=lambda i: (-data.points[i].benefit.estimate, data.points[i].change.estimate))
    texts: list[str] = []
    for number, index in enumerate(named, start=1):
        star = "  (recommended)" if index == data.recommended else ""
        texts += textwrap.wrap(f"{number}  {data.points[index].name}{star}", 40, subsequent_indent="    ")
    priced = all(point.price is not None for point in data.points)
    with drawing(path, (13.2 if priced else 9.8, max(5.0, 1.2 + 0.19 * len(texts)))) as figure:
        heading(figure, data.title, f"n = {data.n} for each plan; bars: 95%")
        *panels, side = figure.subplots(1, 3 if priced else 2, width_ratios=(*(2.1,) * (1 + priced), 1.1))
        panels[0].axvline(0, color=GREY, linewidth=0.7)
        if priced:
            # Divergences span decades, and that of a plan that never acts is 0.
            panels[1].set_xscale("symlog", linthresh=0.01, linscale=0.6)
        front = [data.points[i] for i in data.front]
        steps = sorted((p.change.estimate, p.benefit.estimate) for p in front)
        panels[0].step([s[0] for s in steps], [s[1] for s in steps], where="pre", color=BLUE, linewidth=1.2)
        for axes, side_of in zip(panels, (_change, _price), strict=False):
            axes.axhline(0, color=GREY, linewidth=0.7)
            for kind, points in data.controls.items():
                look = CONTROL_LOOKS[kind][1]
                _cloud(axes, points, side_of, look, GREY, face="white", label=f"{kind} controls")
            others = [p for i, p in enumerate(data.points) if i not in named]
            _cloud(axes, others, side_of, "o", "#9A9A9A", face="#9A9A9A", label="beaten by another")
            unchosen = [p for p in front if p is not chosen]
            _cloud(axes, unchosen, side_of, "s", BLUE, face=BLUE, label="Pareto front")
            if chosen is not None:
                _cloud(axes, [chosen], side_of, "*", VERMILION, face=VERMILION, label="recommended", size=14)
            axes.set(ylabel=textwrap.fill(data.benefit_label, 48))
            axes.margins(0.08)
            axes.grid()
            _number(figure, axes, [data.points[i] for i in named], side_of)
        panels[0].set(xlabel=data.change_label)
        if priced:
            panels[1].set(xlabel="KL from no plan on ordinary chats (nats a token)", ylabel="")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
        side.set_axis_off()
        # The list lies over an empty panel, so the layout must not reserve space for it.
        side.text(
            0, 1, "\n".join(texts), va="top", fontsize=8.6, linespacing=1.45, transform=side.transAxes
        ).set_in_layout(False)


def conditions_figure(path: Path | str, data: ConditionsData) -> None:
    """Draw each measure with limits under no plan, the plan, and every control.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Measures to draw.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    rows = len(data.rows)
    # A lane for no plan, the plan, and each kind of control.
    heights = [0.37 * max(3, 2 + len(row.draws)) for row in data.rows]
    with drawing(path, (8.4, 1.0 + sum(heights))) as figure:
        heading(figure, data.title, f"plan: {data.plan}; bars: 95%")
        panels = figure.subplots(rows, 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, row in zip(panels, data.rows, strict=True):
            _condition(axes, row)


def completions_figure(path: Path | str, data: CompletionsData) -> None:
    """Draw the share of each occupation or trait by strength, next to controls.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Shares with limits.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    columns = min(3, len(data.lines))
    rows = -(-len(data.lines) // columns)
    with drawing(path, (max(3.3 * columns, 5.0), 1.6 + 2.1 * rows)) as figure:
        heading(
            figure,
            data.title,
            f"n = {data.n:,} {data.noun} at each strength; {_bands(bool(data.controls))}\n{SIGNS}",
        )
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        x_controls = data.control_strengths or data.strengths
        for axes, (name, line) in zip(panels, data.lines.items(), strict=False):
            draw_series(axes, data.strengths, line, LINES[0], "axis")
            if name in data.controls:
                draw_controls(axes, x_controls, data.controls[name], GREY)
            axes.axvline(0, color=GREY, linewidth=0.7, zorder=0)
            axes.set_title(name)
            axes.grid(axis="y")
            percent(axes)
        for axes in panels[len(data.lines) :]:
            axes.set_axis_off()
        for column in range(columns):
            panels[max(range(column, len(data.lines), columns))].set_xlabel("Steering strength")
        figure.supylabel(f"Share of {data.noun}", fontsize=9.5)
        entries = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[0]))
        figure.legend(*entries, loc="outside lower center", ncols=2)


def _bands(controls: bool) -> str:
    return "filled bands: 95% intervals" + (", hatched: range of all controls" if controls else "")


def _signed(strength: float) -> str:
    return f"{strength:+g}".replace("-", "\u2212") if strength else "0"


def _change(point: ParetoPoint) -> Estimate:
    return point.change


def _price(point: ParetoPoint) -> Estimate:
    assert point.price is not None
    return point.price


def _cloud(
    axes: Axes,
    points: Sequence[ParetoPoint],
    across: Callable[[ParetoPoint], Estimate],
    marker: str,
    colour: str,
    *,
    face: str,
    label: str,
    size: float = 6,
) -> None:
    if not points:
        return
    axes.errorbar(
        [across(p).estimate for p in points],
        [p.benefit.estimate for p in points],
        xerr=bars([across(p) for p in points]),
        yerr=bars([p.benefit for p in points]),
        fmt=marker,
        color=colour,
        markerfacecolor=face,
        markersize=size,
        elinewidth=0.7,
        alpha=0.95,
        label=label,
    )


def _number(
    figure: Figure,
    axes: Axes,
    points: Sequence[ParetoPoint],
    across: Callable[[ParetoPoint], Estimate],
) -> None:
    """Write 1, 2, ... beside the points, each where it overlaps other marks and numbers the least."""
    figure.draw_without_rendering()
    spots = np.array([axes.transData.transform((across(p).estimate, p.benefit.estimate)) for p in points])
    scale = figure.dpi / 72
    taken = [*spots]
    for number, spot in enumerate(spots, start=1):
        ring = [(np.cos(a), np.sin(a)) for a in np.pi * (0.25 + np.arange(8) / 4)]
        steps = [np.array(unit) * radius * scale for radius in (12, 20, 30) for unit in ring]
        free = [min(float(np.hypot(*(spot + step - other))) for other in taken) for step in steps]
        best = next((i for i, gap in enumerate(free) if gap >= 11 * scale), int(np.argmax(free)))
        taken.append(spot + steps[best])
        axes.annotate(
            str(number),
            (across(points[number - 1]).estimate, points[number - 1].benefit.estimate),
            xytext=tuple(steps[best] / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
        )


def _condition(axes: Axes, row: ConditionRow) -> None:
    conditions = (("no plan", [row.none], "o", INK, INK), ("plan", [row.plan], "s", BLUE, BLUE))
    controls = tuple(
        (count_controls(len(draws), kind), draws, CONTROL_LOOKS[kind][1], GREY, "white")
        for kind, draws in row.draws.items()
    )
    lanes = (*conditions, *controls)
    for lane, (_, found, marker, colour, face) in enumerate(lanes):
        for number, one in enumerate(found):
            height = lane + (number - (len(found) - 1) / 2) * min(0.26, 0.7 / max(len(found), 1))
            axes.errorbar(
                one.estimate,
                height,
                xerr=bars([one]),
                fmt=marker,
                color=colour,
                markerfacecolor=face,
                elinewidth=1.1,
                capsize=2,
            )
    axes.axvline(row.none.estimate, color=PALE, linewidth=1, zorder=0)
    axes.set_yticks(range(len(lanes)), [lane[0] for lane in lanes])
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    better = f", {row.better} is better" if row.better else ""
    axes.set_title(f"{row.name} (n = {row.n:,}{better})")
    axes.grid(axis="x")
    if row.share:
        percent(axes, along="x")
    else:
        axes.set_xlabel(row.unit)
        axes.xaxis.set_major_locator(MaxNLocator(6))
