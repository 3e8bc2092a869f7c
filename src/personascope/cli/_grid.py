"""An empty table that can be read at 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

WHOLE = ("95%", "null", "shuffled", "beyond domain", "R2")
"""Columns whose cells are not broken into lines."""


def grid(title: str, *columns: str, words: tuple[str, ...] = ()) -> Table:
    """Return an empty table that breaks its columns of words into lines where the terminal is narrow.

    Args:
        title: Title, with markup.
        columns: Names of the columns.
        words: Those of them that hold words, to the left; the others hold numbers.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        justify = "left" if name in words else "right"
        table.add_column(name, justify=justify, no_wrap=name in WHOLE, overflow="fold")
    return table
