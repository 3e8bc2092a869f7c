"""Texts in Markdown, with what came from outside made harmless."""

from __future__ import annotations

from collections.abc import Sequence

from personascope.text import escape_controls


def code(value: object) -> str:
    """Return a text as code on one line, in which no Markdown and no HTML acts."""
    text = " ".join(escape_controls(str(value)).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text or '-'}`"


def plain(value: object) -> str:
    """Return a text on one line with the characters escaped that Markdown or HTML would act on."""
    text = " ".join(escape_controls(str(value)).split())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
