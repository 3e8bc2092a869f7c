"""``llms.txt``: every page for a reader that is a program, beside the pages' Markdown."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from tools.docsite._page import Page

SUMMARY = """# personascope

> Map a language model's persona space, find its Assistant Axis, steer along it, cap it, and watch responses
> move along it. Python 3.11 or later; `import personascope as ps` or the command `personascope`.

Begin with [agents.md](agents.md). Every page is here as Markdown, under the address of its HTML page with
.md at the end. [llms-full.txt](llms-full.txt) is all pages that were written by hand, and the commands, in
one file.
"""

SECTIONS = {
    "": "Pages",
    "howto": "How-to",
    "commands": "Commands",
    "reference": "Python reference",
    "troubleshooting": "Errors",
    "results": "Results",
    "notebooks": "Notebooks",
}


def write_llms(pages: Sequence[Page], staged: Path, out: Path) -> None:
    """Write the list, the whole text, and every page as Markdown into the built site.

    Args:
        pages: Pages of the site.
        staged: Folder with their Markdown as it was built.
        out: Folder of the built site.
    """
    lines = [SUMMARY]

    def folder(page: Page) -> str:
        return page.path.rpartition("/")[0]

    order = list(SECTIONS)
    for name, group in groupby(sorted(pages, key=lambda one: order.index(folder(one))), key=folder):
        lines.append(f"## {SECTIONS[name]}\n")
        for page in group:
            summary = f": {page.summary}" if page.summary else ""
            lines.append(f"- [{page.title}]({page.path}){summary}")
        lines.append("")
    (out / "llms.txt").write_text("\n".join(lines), encoding="utf-8")

    whole = [page for page in pages if page.source.startswith("docs/") or folder(page) == "commands"]
    parts = [f"<!-- {page.path} -->\n{page.text.strip()}\n" for page in whole]
    (out / "llms-full.txt").write_text("\n".join(parts), encoding="utf-8")
    for page in pages:
        target = out / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(staged / page.path, target)
