"""Conversations that were projected, as a table and a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personascope import __version__, report
from personascope.api._tabular import Tabular, data_frame
from personascope.dynamics.projection import Projected

if TYPE_CHECKING:
    import pandas

_SHORT = 20
"""Number of tokens below which a note says that the position of a single turn is noisy."""

_COLUMNS = (
    "conversation",
    "turn",
    "role",
    "tokens",
    "projection",
    "position",
    "percentile",
    "text",
    "status",
    "reason",
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProjectedChats(Tabular):
    """Conversations with the position of every turn on the axis, and on other directions.

    Attributes:
        entries: Entries of the source in order, also those that could not be projected, with the reason.
        layer: Layer at which the axis is read.
        probes: Names of the directions, "axis" first.
        title: Title of the figure: model and layer.
        source: Name of the source.
        pmap: Folder of the map.
    """

    entries: tuple[Projected, ...]
    layer: int
    probes: tuple[str, ...]
    title: str
    source: str
    pmap: str

    def __iter__(self) -> Iterator[Projected]:
        """Yield the entries."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.entries)

    @property
    def projected(self) -> tuple[Projected, ...]:
        """Entries that were projected."""
        return tuple(entry for entry in self.entries if entry.status == "projected")

    def headline(self) -> str:
        """Return the numbers of conversations, and the mean position of the model's replies."""
        replies = [
            turn.axis.position
            for entry in self.entries
            for turn in entry.turns
            if turn.role == "assistant" and not math.isnan(turn.axis.position)
        ]
        mean = f", replies at {sum(replies) / len(replies):+.2f} on average" if replies else ""
        count = f"{len(self.projected)} of {len(self.entries)} conversations"
        return f"{count} projected at layer {self.layer}{mean}"

    def notes(self) -> tuple[str, ...]:
        """Return what positions mean, and what was left out or is noisy."""
        turns = [turn for entry in self.entries for turn in entry.turns]
        short = sum(0 < turn.token_count < _SHORT for turn in turns)
        found = ["position: 0 is the mean role, 1 the default Assistant"]
        if short:
            found.append(
                f"{short} of {len(turns)} turns are shorter than {_SHORT} tokens: their positions are noisy"
            )
        found += [f"{one.where}: {one.reason}" for one in self.entries if one.status != "projected"]
        found += [f"{one.where}: {one.repairs}" for one in self.entries if one.repairs]
        return tuple(found)

    def shown(self) -> tuple[str, ...]:
        """Return the columns of the card."""
        return ("conversation", "turn", "role", "tokens", "position", *self.probes[1:], "text")

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each turn, and one for each entry that was not projected."""
        rows: list[dict[str, Any]] = []
        for entry in self.entries:
            base = dict.fromkeys(_COLUMNS) | {
                "conversation": entry.id, "status": entry.status, "reason": entry.reason
            }  # fmt: skip
            if not entry.turns:
                rows.append(base | dict.fromkeys(self.probes[1:]))
            for turn in entry.turns:
                found = {"turn": turn.turn, "role": turn.role, "tokens": turn.token_count, "text": turn.text}
                axis = turn.axis
                found |= {
                    "projection": axis.projection,
                    "position": axis.position,
                    "percentile": axis.percentile,
                }
                found |= {name: turn.readings[name].projection for name in self.probes[1:]}
                rows.append(base | found)
        return rows

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row for each turn, and one for each entry that was not projected, as a DataFrame.

        Raises:
            UsageError: If pandas is not installed.
        """
        return data_frame(self.records(), (*_COLUMNS, *self.probes[1:]))

    def plot(self) -> report.Plot:
        """Return the figure of positions by message, a line for each conversation."""
        units = any(not math.isnan(turn.axis.position) for one in self.projected for turn in one.turns)
        lines = [
            report.ChatLine(
                entry.id,
                [turn.turn for turn in entry.turns],
                [turn.role for turn in entry.turns],
                [turn.axis.position if units else turn.axis.projection for turn in entry.turns],
            )
            for entry in self.projected
        ]
        label = "Position (0 mean role, 1 default Assistant)" if units else "Projection on the axis (raw)"
        data = report.ChatsData(lines, self.title, label, units)
        about = {
            "map": self.pmap,
            "source": self.source,
            "layer": str(self.layer),
            "personascope": __version__,
        }
        return report.Plot(self.title, lambda path: report.chats_figure(path, data), about)
