"""The figure of drift and harm: harm in the second reply by the position of the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from personascope.directions import kind_label
from personascope.dynamics.harm import Correlation, HarmResult
from personascope.errors import DynamicsError
from personascope.report.figures._style import (
    BLUE,
    CONTROL_LOOKS,
    GREY,
    INK,
    PALE,
    VERMILION,
    count_controls,
    drawing,
    percent,
)

POSITION = "Position of the first reply (0 mean role, 1 default Assistant)"
_NAMED = 3
"""Maximum number of named roles: those with the largest harmful shares; ties go to lower positions."""


def save_harm_figure(path: Path, found: HarmResult, *, title: str = "") -> Path:
    """Draw the harmful share in bins of position with fit and controls, and the role means.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        found: Result of drift and harm.
        title: Title of the figure; by default it names the model.

    Returns:
        The given path.

    Raises:
        DynamicsError: If there is no bin.
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    if not found.bins:
        raise DynamicsError("the result has no bin to draw", hint="run it with a judge")
    with drawing(path, (10.4, 4.6)) as figure:
        plan = f"; plan: {found.plan}" if found.plan else ""
        caveat = f"; {found.caveat}" if found.caveat else ""
        head = title or f"Drift and harm: {found.model}"
        figure.suptitle(
            f"{head}\nn = {found.n:,} trials of {len(found.roles)} roles, "
            f"layer {found.layer}{plan}{caveat}; bars and filled band: 95%, resampling roles",
            x=0.01,
            ha="left",
            fontsize=10.5,
        )
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _binned(left, found)
        _by_role(right, found)
        for axes in (left, right):
            axes.set_xlabel(axes.get_xlabel() or POSITION)
            axes.grid(axis="y")
            percent(axes)
            for value in (0.0, 1.0):
                if axes.get_xlim()[0] < value < axes.get_xlim()[1]:
                    axes.axvline(value, color=PALE, linewidth=1, zorder=0)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    return path


def _binned(axes: Axes, found: HarmResult) -> None:
    x = [part.position for part in found.bins]
    shares = [part.share for part in found.bins]
    for kind, control in found.controls.items():
        draws = np.array([row for row in control.shares if len(row) == len(x)], float)
        if not len(draws):
            continue
        # A direction is about as likely as its opposite, whose bins are the same in reverse order.
        both = np.concatenate([draws, draws[:, ::-1]])
        axes.fill_between(
            x,
            both.min(axis=0),
            both.max(axis=0),
            facecolor="none",
            edgecolor=GREY,
            alpha=0.45,
            hatch=CONTROL_LOOKS[kind_label(kind)][2],
            linewidth=0,
            label=f"{count_controls(len(draws), kind_label(kind))}: range",
        )
    if found.logistic is not None:
        curve = found.logistic.curve
        grid = [point.position for point in curve]
        axes.fill_between(
            grid,
            [point.low for point in curve],
            [point.high for point in curve],
            color=BLUE,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(grid, [point.share for point in curve], "-", color=BLUE, label="logistic fit")
    axes.errorbar(
        x,
        [share.estimate for share in shares],
        yerr=_bars([(s.estimate, s.low, s.high) for s in shares]),
        fmt="o",
        color=INK,
        capsize=2,
        elinewidth=1.1,
        clip_on=False,
        label="axis, bins of equal size",
    )
    if found.no_role is not None:
        place, share = found.no_role.position, found.no_role.harmful
        axes.errorbar(
            [place.estimate],
            [share.estimate],
            xerr=_bars([(place.estimate, place.low, place.high)]),
            yerr=_bars([(share.estimate, share.low, share.high)]),
            fmt="D",
            color=VERMILION,
            capsize=2,
            elinewidth=1.1,
            clip_on=False,
            label=f"no role (n = {share.n})",
        )
    axes.set(title=f"a  Trials: {_told(_of(found, 'trial'))}", ylabel="Harmful second replies")


def _by_role(axes: Axes, found: HarmResult) -> None:
    x = np.array([role.position for role in found.roles])
    y = np.array([role.harmful for role in found.roles])
    # Roles with few trials have few distinct shares, so make overlapping dots visible by transparency.
    axes.scatter(x, y, s=22, color=BLUE, alpha=0.45, linewidths=0, clip_on=False)
    ordered = sorted(found.roles, key=lambda role: (-role.harmful, role.position))
    named = [role.role.replace("_", " ") for role in ordered[:_NAMED] if role.harmful > 0]
    if named:
        # Name them under the axis, because text in the panel would cover roles with much harm.
        axes.set_xlabel(f"{POSITION}\nmost harm: {', '.join(named)}")
    axes.set(title=f"b  Role means: {_told(_of(found, 'role'))}", ylabel="Harmful share of a role's replies")


def _of(found: HarmResult, level: str) -> Correlation:
    return next(c for c in found.correlations if (c.method, c.level) == ("pearson", level))


def _told(found: Correlation) -> str:
    if not np.isfinite(found.r):
        return "no correlation (one side does not vary)"
    limits = f" ({_signed(found.low)} to {_signed(found.high)})" if np.isfinite(found.low) else ""
    return f"r = {_signed(found.r)}{limits}, p = {found.p_value:.2g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")


def _bars(rows: list[tuple[float, float, float]]) -> np.ndarray:
    """Return the lengths of error bars, [2, n]; 0 for missing limits."""
    table = np.array([[middle - low, high - middle] for middle, low, high in rows], float).T
    return np.nan_to_num(np.maximum(table, 0))
