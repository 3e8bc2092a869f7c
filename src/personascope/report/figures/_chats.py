"""Positions of the turns of conversations, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from personascope.errors import UsageError
from personascope.report.figures._style import BLUE, GREY, INK, PALE, VERMILION, drawing, heading

_NAMED = 6
"""Number of conversations up to which each is named."""


@dataclass(frozen=True, slots=True)
class ChatLine:
    """The positions of a conversation's turns.

    Attributes:
        name: Name of the conversation.
        turns: Index of each message.
        roles: Speaker of each message.
        values: Position of each message; NaN for one without tokens.
    """

    name: str
    turns: Sequence[int]
    roles: Sequence[str]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class ChatsData:
    """Positions of conversations.

    Attributes:
        lines: Conversations.
        title: Title of the figure.
        label: Label of the values.
        landmarks: Whether the values are in units of the map, in which 0 is the mean role and 1 the default.

    Raises:
        UsageError: If there is no conversation.
    """

    lines: Sequence[ChatLine]
    title: str
    label: str
    landmarks: bool = True

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not self.lines:
            raise UsageError("no conversation was projected, so there is nothing to draw")


def chats_figure(path: Path | str, data: ChatsData) -> None:
    """Draw a line for each conversation: the model's replies filled, the other turns hollow.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Positions.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    with drawing(path, (8.2, 4.4)) as figure:
        many = len(data.lines) > _NAMED
        heading(
            figure, data.title, f"n = {len(data.lines)}; filled: replies of the model; hollow: other turns"
        )
        axes = figure.subplots()
        for line in data.lines:
            _draw(axes, line, many=many)
        if data.landmarks:
            for value in (0.0, 1.0):
                axes.axhline(value, color=PALE, linewidth=1, zorder=0)
        axes.set(xlabel="Message", ylabel=data.label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.12)


def _draw(axes: Axes, line: ChatLine, *, many: bool) -> None:
    axes.plot(line.turns, line.values, color=GREY, linewidth=0.8, alpha=0.3 if many else 0.9, zorder=1)
    for role, face in (("assistant", BLUE), ("user", "white"), ("system", "white")):
        at = [index for index, one in enumerate(line.roles) if one == role]
        edge = {"assistant": BLUE, "user": INK}.get(role, VERMILION)
        axes.scatter(
            [line.turns[index] for index in at],
            [line.values[index] for index in at],
            s=14 if many else 34,
            facecolors=face,
            edgecolors=edge,
            alpha=0.6 if many else 1.0,
            zorder=2,
        )
    drawn = [
        (turn, value) for turn, value in zip(line.turns, line.values, strict=True) if math.isfinite(value)
    ]
    if not many and drawn:
        axes.annotate(
            line.name[:40], drawn[-1], xytext=(7, -3), textcoords="offset points",
            fontsize=8, parse_math=False,
        )  # fmt: skip
