"""Stage the site: all pages in one folder, with links that hold there, drawings, and the menu."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

import yaml
from tools.docsite._api import reference_pages
from tools.docsite._commands import command_pages
from tools.docsite._errors import error_pages
from tools.docsite._notebooks import notebook_pages
from tools.docsite._page import LINK, Page, outside_code
from tools.docsite._results import result_pages

ROOT = Path(__file__).parents[2]
DRAWING = re.compile(r"^!\[(?P<text>[^\]]*)\]\((?P<target>[^()\s]+\.svg)\)$", flags=re.M)


def stage(work: Path) -> list[Page]:
    """Write every page, the files that pages link to, and the generator's configuration.

    Args:
        work: Folder to write, emptied first; the site is built in ``html`` inside.

    Returns:
        The pages, in the order of the site.

    Raises:
        ValueError: If a page is in no menu or twice, a menu names no page, or a link leads nowhere.
    """
    shutil.rmtree(work, ignore_errors=True)
    folder = work / "pages"
    folder.mkdir(parents=True)
    config = yaml.safe_load((Path(__file__).parent / "site.yml").read_text(encoding="utf-8"))
    written = written_pages()
    groups = {
        "commands": command_pages(written),
        "reference": reference_pages(ROOT / "src" / "personascope"),
        "troubleshooting": error_pages(ROOT / "src" / "personascope"),
        "results": result_pages(ROOT),
        "notebooks": notebook_pages(ROOT / "notebooks"),
    }
    pages = {page.path: page for page in (*written, *(page for group in groups.values() for page in group))}
    config["nav"] = _filled(config["nav"], groups)
    order = _paths(config["nav"])
    if sorted(order) != sorted(pages):
        odd = sorted(set(order) ^ set(pages)) or [path for path in order if order.count(path) > 1]
        raise ValueError(f"the menu of site.yml and the pages differ: {', '.join(odd)}")
    staged = [_staged(pages[path], pages, folder) for path in order]
    for page in staged:
        target = folder / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.text, encoding="utf-8")
    shutil.copytree(Path(__file__).parent / "assets", folder / "assets")
    config |= {"docs_dir": "pages", "site_dir": "html"}
    (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8")
    return staged


def written_pages() -> list[Page]:
    """Return the pages that were written by hand, which are those of docs."""
    docs = ROOT / "docs"
    return [
        Page(
            path.relative_to(docs).as_posix(),
            path.read_text(encoding="utf-8"),
            path.relative_to(ROOT).as_posix(),
        )
        for path in sorted(docs.rglob("*.md"))
    ]


def _filled(nav: Sequence[Any], groups: dict[str, list[Page]]) -> list[Any]:
    """Return the menu with a list of pages where it says ``@GROUP``."""
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.startswith("@"):
            titles = {page.path: re.sub(r"^personascope[ .]", "", page.title) for page in groups[entry[1:]]}
            filled += [{title: path} for path, title in titles.items()]
        elif isinstance(entry, dict):
            filled.append(
                {
                    name: _filled(inner, groups) if isinstance(inner, list) else inner
                    for name, inner in entry.items()
                }
            )
        else:
            filled.append(entry)
    return filled


def _paths(nav: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for entry in nav:
        inner = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += _paths(inner) if isinstance(inner, list) else [inner]
    return found


def _staged(page: Page, pages: dict[str, Page], folder: Path) -> Page:
    """Return a page whose links hold in the site; files that it links to are put beside the pages."""
    here = PurePosixPath(page.path).parent

    def drawing(found: re.Match[str]) -> str:
        path = ROOT / PurePosixPath(page.source).parent / found["target"]
        svg = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.S).strip()
        caption = f"<figcaption>{found['text']}</figcaption>"
        return f'<figure class="drawing" tabindex="0">\n{svg}\n{caption}\n</figure>'

    def link(found: re.Match[str]) -> str:
        image, text, target = found["image"], found["text"], found["target"]
        path, hash_, anchor = target.partition("#")
        if re.match(r"(https?|mailto):", target) or not path:
            return found[0]
        if path.startswith("site:"):
            inside = path.removeprefix("site:")
            if inside not in pages:
                raise ValueError(f"{page.path} links to {inside}, which is no page")
        elif page.source:
            inside = _inside(page, path, pages, folder)
        else:
            inside = normpath(here / path)
            if inside not in pages and inside.startswith("files/"):
                inside = _kept(inside.removeprefix("files/"), folder)
        if not inside:
            return text
        if re.fullmatch(r"`?(docs/|benchmarks/)?\w+\.md`?", text) and inside in pages:
            text = pages[inside].title
        return f"{image}[{text}]({relpath(inside, here)}{hash_}{anchor})"

    text = outside_code(page.text, DRAWING, drawing) if page.source else page.text
    return Page(page.path, outside_code(text, LINK, link), page.source)


def _inside(page: Page, path: str, known: Collection[str], folder: Path) -> str:
    """Return where a file of the repository lies in the site; "" for a folder."""
    target = normpath(PurePosixPath(page.source).parent / path)
    if page.source.startswith("notebooks/") and target.startswith("files/"):
        return _kept(target.removeprefix("files/"), folder)
    real = ROOT / target
    if not real.exists():
        raise ValueError(f"{page.source} links to {target}, which does not exist")
    if target == "README.md":
        return "index.md"
    if target.startswith("docs/") and target.removeprefix("docs/") in known:
        return target.removeprefix("docs/")
    if target.startswith("benchmarks/") and f"results/{real.name}" in known and real.suffix == ".md":
        return f"results/{real.name}"
    if real.is_dir():
        return ""
    if target.startswith("docs/"):
        kept = folder / target.removeprefix("docs/")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, kept)
        return target.removeprefix("docs/")
    return _kept(target, folder)


def _kept(target: str, folder: Path) -> str:
    """Copy a file of the repository into the site, as text where a browser would not show it."""
    shown = f"files/{target}" + ("" if target.endswith((".ipynb", ".png", ".svg")) else ".txt")
    kept = folder / shown
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / target, kept)
    return shown
