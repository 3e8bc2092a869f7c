"""Values that a notebook shows as a table and pandas takes as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from personascope.errors import UsageError
from personascope.text import escape_controls, html_card

if TYPE_CHECKING:
    import pandas


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> pandas.DataFrame:
    """Return rows as a DataFrame of pandas, which is imported here.

    Args:
        rows: Rows, with the same columns each.
        columns: Columns of a table without rows.

    Raises:
        UsageError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError(
            "a DataFrame needs pandas, which is not installed",
            hint="pip install pandas, or install personascope with its extra: personascope[notebook]",
        ) from error
    return pandas.DataFrame(list(rows), columns=None if rows else list(columns))


class Tabular:
    """Base of results: one line as text, a card in a notebook, and a table for pandas."""

    __slots__ = ()

    def records(self) -> list[dict[str, Any]]:
        """Return the table's rows: column -> value."""
        raise NotImplementedError

    def headline(self) -> str:
        """Return the result on one line."""
        raise NotImplementedError

    def notes(self) -> Sequence[str]:
        """Return remarks for the reader, one line each."""
        return ()

    def shown(self) -> Sequence[str]:
        """Return the columns that the card of a notebook shows; all if empty."""
        return ()

    def to_pandas(self) -> pandas.DataFrame:
        """Return the table as a DataFrame.

        Raises:
            UsageError: If pandas is not installed.
        """
        return data_frame(self.records())

    def __repr__(self) -> str:
        """Return the result on one line."""
        return escape_controls(f"{type(self).__name__}: {self.headline()}".replace("\n", " "))

    def _repr_html_(self) -> str:
        """Return a card for a notebook."""
        rows = self.records()
        if self.shown():
            rows = [{name: row[name] for name in self.shown()} for row in rows]
        return html_card(f"{type(self).__name__}: {self.headline()}", rows=rows, notes=self.notes())
