"""A page of the site, and what is read from Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)\s*$", flags=re.M | re.S)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the site.

    Attributes:
        path: Path below the folder of pages, such as "howto/serving.md".
        text: Markdown, with links that hold inside the site.
        source: File of the repository that it was written in; "" for a page made from the code.
    """

    path: str
    text: str
    source: str = ""

    @property
    def title(self) -> str:
        """First heading, without marks."""
        found = re.search(r"^# (.+)$", self.text, flags=re.M)
        return re.sub(r"[`*]", "", found.group(1)).strip() if found else self.path

    @property
    def summary(self) -> str:
        """First sentence of the first paragraph of prose."""
        body = re.sub(r"<[^>]+>", "", FENCE.sub("", self.text))
        for part in re.split(r"\n\s*\n", body):
            lines = [line for line in part.strip("\n").splitlines() if not line.startswith("#")]
            plain = LINK.sub(lambda found: found["text"], " ".join(lines)).strip()
            if plain and plain[0] not in "|!<-*>:" and not lines[0].startswith("    "):
                return re.split(r"(?<=[.?])\s", plain)[0]
        return ""


def outside_code(text: str, change: re.Pattern[str], to: object) -> str:
    """Replace a pattern everywhere but in fenced blocks."""
    parts: list[str] = []
    at = 0
    for fence in FENCE.finditer(text):
        parts += [change.sub(to, text[at : fence.start()]), fence.group()]  # type: ignore[arg-type]
        at = fence.end()
    return "".join([*parts, change.sub(to, text[at:])])  # type: ignore[arg-type]


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def plain_words(text: str) -> str:
    """Escape what Markdown would read as a mark in a line of prose."""
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")
