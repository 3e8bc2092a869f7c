"""Results: the tables that the scripts of benchmarks write, each with where it comes from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tools.docsite._page import Page, cell

HEAD = """# Results

Every measured claim has a script, and the script writes the table. A page here is such a file, unchanged. The
machine is named where the script records it. The last column is the commit that last changed the file;
without the repository's history it is empty.

| result | command | machine | last changed |
|---|---|---|---|
"""


def result_pages(root: Path) -> list[Page]:
    """Return a page for each table of benchmarks, and one that lists them."""
    pages = [
        Page(f"results/{path.name}", _text(path), f"benchmarks/{path.name}")
        for path in sorted((root / "benchmarks").glob("*.md"))
    ]
    rows = [
        f"| [{cell(page.title)}]({Path(page.path).name}) | {command} | {cell(machine)} | {changed} |"
        for page in pages
        for command, machine in [_origin(page.text)]
        for changed in [_changed(root, page.source)]
    ]
    return [Page("results/index.md", HEAD + "\n".join(rows) + "\n"), *pages]


def _text(path: Path) -> str:
    # A table follows its heading at once where the script leaves no blank line; Markdown needs one.
    return re.sub(r"(?m)^([^|\n].*)\n(\|.*\|\n\|[-| :]+\|)$", r"\1\n\n\2", path.read_text(encoding="utf-8"))


def _origin(text: str) -> tuple[str, str]:
    command = re.search(r"`(python benchmarks/[^`]+)`", text)
    machine = re.search(r"` on ([^`\n]*(?:threads|GPU|NVIDIA|CPU)[^\n]*)", text)
    return (f"`{command.group(1)}`" if command else "", machine.group(1) if machine else "")


def _changed(root: Path, path: str) -> str:
    if shutil.which("git") is None or not (root / ".git").exists():
        return ""
    command = ["git", "log", "-1", "--format=%cs %h", "--", path]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()
