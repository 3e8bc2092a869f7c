"""Shared style of the figures: palette, markers, and writing to disk.

Matplotlib's global state is neither used nor changed: each figure is a ``Figure`` of its own without pyplot,
in the default style whatever a notebook has set.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from personascope.errors import UsageError
from personascope.report.figures._data import Estimate, Series
from personascope.store import write_bytes

SUFFIXES = (".png", ".svg", ".pdf")

PROVENANCE: ContextVar[str] = ContextVar("provenance", default="")
"""What the figures that are drawn now were made from, which is written into their files."""

_ABOUT = {".png": "Description", ".svg": "Description", ".pdf": "Subject"}
"""Field of each format's metadata that holds the provenance."""

# Okabe and Ito's palette, which is distinguishable with any colour vision.
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
VERMILION, ORANGE, PURPLE, YELLOW = "#D55E00", "#E69F00", "#CC79A7", "#F0E442"
INK, GREY, PALE = "#222222", "#6E6E6E", "#C8C8C8"

LABEL_LOOKS: dict[str, tuple[str, str]] = {
    "assistant": (BLUE, ""),
    "nonhuman": (SKY, "///"),
    "human": (GREEN, "..."),
    "mystical": (VERMILION, "\\\\\\"),
    "ambiguous": (YELLOW, ""),
    "other": ("#9A9A9A", ""),
    "nonsensical": ("#4D4D4D", "xxx"),
}
"""Fixed colour and hatch of known labels; hatches distinguish them without colour."""

_SPARE = ((PURPLE, "ooo"), (ORANGE, "---"), ("#8C6D31", "|||"), ("#9E9AC8", "+++"), ("#A1D99B", "***"))
LINES = ((BLUE, "-", "o"), (VERMILION, "-", "s"), (GREEN, "-", "^"), (PURPLE, "-", "D"), (ORANGE, "-", "v"))
"""Colour, dash and marker of lines, in order."""

CONTROL_LOOKS = {
    "isotropic": ("--", "o", "////"),
    "shuffled": (":", "s", "\\\\\\\\"),
    "role-span": ("-.", "^", "...."),
}
"""Dash, marker and hatch of each kind of control; markers are drawn hollow."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.8,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    # Fixed, so that the same data give the same bytes.
    "svg.hashsalt": "personascope",
    "pdf.fonttype": 42,
}


def looks(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return a colour and a hatch for each label: fixed ones if known, else spare ones in order."""
    spare = iter(_SPARE * (len(labels) // len(_SPARE) + 1))
    return [LABEL_LOOKS[label] if label in LABEL_LOOKS else next(spare) for label in labels]


@contextmanager
def drawing(path: Path | str, size: tuple[float, float]) -> Generator[Figure]:
    """Yield an empty figure of ``size`` inches, and write it if the block ends without an error.

    The suffix determines the format: PNG, SVG or PDF. The file is written atomically.

    Raises:
        UsageError: If the suffix is none of these.
        StoreError: If the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UsageError(
            f"a figure cannot be written as {path.name!r}", hint=f"end the name in {', '.join(SUFFIXES)}"
        )
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        data = io.BytesIO()
        # Omit dates and versions, so that the same data give the same file.
        unset = {".png": "Software", ".svg": "Date", ".pdf": "CreationDate"}[kind]
        about = {_ABOUT[kind]: PROVENANCE.get()} if PROVENANCE.get() else {}
        figure.savefig(data, format=kind[1:], metadata={unset: None, **about}, facecolor="white")
    write_bytes(path, data.getvalue())


def heading(figure: Figure, title: str, below: str) -> None:
    """Write the title of a figure and a subtitle (such as sample sizes), wrapped to its width."""
    width = round(11.5 * figure.get_size_inches()[0])
    lines = [part for line in (title, *below.splitlines()) for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10.5)


def bars(found: Sequence[Estimate]) -> np.ndarray:
    """Return the lengths of error bars, [2, n]; 0 for missing limits."""
    table = np.array([[e.estimate - e.low, e.high - e.estimate] for e in found], float).T
    return np.nan_to_num(np.maximum(table, 0))


def percent(axes: Axes, *, along: str = "y", full: bool = False) -> None:
    """Format one axis in percent from 0 up to 100% if ``full``, else up to the data's range, at least 5%."""
    axis = axes.yaxis if along == "y" else axes.xaxis
    limits = axes.set_ylim if along == "y" else axes.set_xlim
    high = axes.get_ylim()[1] if along == "y" else axes.get_xlim()[1]
    high = 1.0 if full else min(max(high, 0.05), 1.0)
    limits(0, high)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))


def draw_series(
    axes: Axes, x: Sequence[float], series: Series, look: tuple[str, str, str], label: str
) -> None:
    """Draw estimates as a line with markers, and their limits as a band."""
    colour, dash, marker = look
    axes.fill_between(x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, series.values, dash, color=colour, marker=marker, label=label, clip_on=False)


def draw_controls(
    axes: Axes,
    x: Sequence[float],
    kinds: Mapping[str, Sequence[Sequence[float]]],
    colour: str,
    name: str = "",
) -> None:
    """Draw controls: the mean of each kind with its dashes and hollow markers, the range of all hatched."""
    table = np.array([draw for draws in kinds.values() for draw in draws], float)
    axes.fill_between(
        x,
        table.min(axis=0),
        table.max(axis=0),
        facecolor="none",
        edgecolor=colour,
        alpha=0.45,
        hatch="////",
        linewidth=0,
    )
    for kind, draws in kinds.items():
        dash, marker, _ = CONTROL_LOOKS[kind]
        axes.plot(
            x,
            np.mean(np.array(draws, float), axis=0),
            linestyle=dash,
            color=colour,
            marker=marker,
            markerfacecolor="white",
            clip_on=False,
            linewidth=1.2,
            label=f"{name}{count_controls(len(draws), kind)}",
        )


def count_controls(number: int, kind: str) -> str:
    """Return the number of controls of a kind in words."""
    return f"{number} {kind} control{'' if number == 1 else 's'}"
