"""Cards and tables in HTML, as notebooks show values; whatever is put in is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from personascope.text._characters import escape_controls, replace_surrogates

_BOX = "border:1px solid #8888;border-radius:6px;padding:.6em .9em;max-width:64em;overflow-x:auto"
_CELL = "padding:.15em .7em;vertical-align:top"
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere"
_LONG = 24
"""Number of characters from which a table's cell is wide and wraps; shorter ones stay on one line."""


def html_card(
    title: str,
    facts: Mapping[str, Any] | None = None,
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    most: int = 20,
    notes: Sequence[str] = (),
    text: str = "",
) -> str:
    """Return a card: a title, named facts, a table of rows, a text, and notes.

    Args:
        title: Title of the card.
        facts: Name -> value, one on a line.
        rows: Rows of the table, with the same columns each.
        most: Number of rows that are shown; the number of the others is said below them.
        notes: Remarks below the table.
        text: Text whose lines are kept.
    """
    parts = [f"<div style='{_BOX}'><b>{_safe(title)}</b>"]
    if facts:
        lines = (
            f"<tr><td style='{_CELL};opacity:.7'>{_safe(name)}</td>"
            f"<td style='{_CELL};text-align:left;{_PRE}'>{_safe(value)}</td></tr>"
            for name, value in facts.items()
        )
        parts.append(f"<table>{''.join(lines)}</table>")
    if rows:
        parts.append(_table(rows[:most]))
        if len(rows) > most:
            parts.append(f"<div style='opacity:.7'>{len(rows) - most} more rows in .to_pandas()</div>")
    if text:
        parts.append(f"<div style='{_PRE}'>{_safe(text)}</div>")
    parts += [f"<div style='opacity:.7;font-size:90%'>{_safe(note)}</div>" for note in notes]
    return "".join([*parts, "</div>"])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th style='{_CELL};text-align:left'>{_safe(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(_cell(value) for value in row.values())}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    text = _safe(value)
    wide = f"min-width:13em;{_PRE}" if len(text) >= _LONG else "white-space:nowrap"
    return f"<td style='{_CELL};text-align:left;{wide}'>{text}</td>"


def _safe(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return html.escape(escape_controls(replace_surrogates(text)))
