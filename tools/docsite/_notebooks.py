"""Pages of the notebooks: what is written and what is run, without outputs, which are not committed."""

from __future__ import annotations

import json
from pathlib import Path

from tools.docsite._page import Page
from tools.docsite._source import colab_link

HEAD = """# Notebooks

Five notebooks, each of which ends in a figure. They run on the embedded model in minutes on a laptop's two
cores, in Jupyter, in an editor or in Colab: upload the file there and run it; the first cell installs what is
missing. They are executed by the tests. The pages here show what they do; the files are linked on each.

"""


def notebook_pages(folder: Path) -> list[Page]:
    """Return a page for each notebook, and one that lists them.

    Args:
        folder: Folder with the notebooks.
    """
    pages = [_page(path) for path in sorted(folder.glob("*.ipynb"))]
    lines = [f"- [{page.title}]({Path(page.path).name}): {page.summary}" for page in pages]
    return [Page("notebooks/index.md", HEAD + "\n".join(lines) + "\n"), *pages]


def _page(path: Path) -> Page:
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif text:
            parts.append(f"```python\n{text}\n```")
    parts.append(f"The file: [{path.name}](../files/notebooks/{path.name}).")
    link = colab_link(path.parents[1], path.name)
    if link:
        parts.insert(1, f"[Open in Colab]({link})")
    return Page(f"notebooks/{path.stem}.md", "\n\n".join(parts) + "\n", f"notebooks/{path.name}")
