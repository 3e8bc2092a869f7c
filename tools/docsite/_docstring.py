"""Docstrings in Google style as Markdown."""

from __future__ import annotations

import re
import textwrap

SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Example": "Example",
    "Examples": "Examples",
    "Note": "Note",
}


def as_markdown(docstring: str) -> str:
    """Return a docstring as Markdown: its prose, then a list for each section."""
    lines = _dedented(docstring)
    prose: list[str] = []
    while lines and not _section(lines[0]):
        prose.append(lines.pop(0))
    parts = [_prose("\n".join(prose))]
    while lines:
        name = _section(lines.pop(0))
        body: list[str] = []
        while lines and not _section(lines[0]):
            body.append(lines.pop(0))
        text = textwrap.dedent("\n".join(body)).strip("\n")
        items = ["Returns", "Yields", "Note", "Example", "Examples"]
        shown = _prose(text) if name in items else _items(text)
        parts.append(f"**{SECTIONS[name]}**\n\n{shown}")
    return "\n\n".join(part for part in parts if part)


def _dedented(docstring: str) -> list[str]:
    first, _, rest = docstring.strip("\n").partition("\n")
    return [first.strip(), *textwrap.dedent(rest).splitlines()]


def _section(line: str) -> str:
    name = line.rstrip().removesuffix(":")
    return name if line.rstrip().endswith(":") and name in SECTIONS else ""


def _prose(text: str) -> str:
    return outside_brackets(textwrap.dedent(text).strip())


def outside_brackets(text: str) -> str:
    """Escape square brackets of shapes, which Markdown might read as links, outside code."""
    parts = re.split(r"(``.+?``|`[^`]+`)", text, flags=re.S)
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"([\[\]*])", r"\\\1", parts[index]).replace("<", "&lt;")
    return "".join(parts)


def _items(text: str) -> str:
    items: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        found = re.match(r"([\w.*, ]+?)(?: \([^)]*\))?:(?: (.*))?$", line)
        if found and not line.startswith(" "):
            items.append((found[1], [found[2] or ""]))
        elif items:
            items[-1][1].append(line.strip())
    return "\n".join(
        f"- `{name}`: {outside_brackets(' '.join(part for part in words if part))}" for name, words in items
    )
