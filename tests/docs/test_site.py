"""The documentation site builds without a warning, and every page, link and list in it holds."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest

from helpers.chromium import chromium, needs_chromium
from personascope.cli._app import COMMANDS

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.docsite._api import exported
from tools.docsite._docstring import as_markdown
from tools.docsite._errors import error_classes, raised
from tools.docsite._stage import written_pages

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "personascope"
needs_generator = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="the extra docs is not installed"
)


class Links(HTMLParser):
    """Addresses and anchors of a page, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.targets.append(values["href"] or "")
        if tag in ("script", "img", "link") and (address := values.get("src") or values.get("href")):
            self.loaded.append(address)
        if values.get("id"):
            self.anchors.add(values["id"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "tools.docsite", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    yield out


@needs_generator
def test_the_site_holds_together(site: Path) -> None:
    pages = {path: Links() for path in site.rglob("*.html")}
    assert len(pages) > 100
    for path, links in pages.items():
        links.feed(path.read_text(encoding="utf-8"))
    broken: list[str] = []
    for path, links in pages.items():
        if path.name == "404.html":
            continue
        for target in [*links.targets, *links.loaded]:
            address, anchor = urldefrag(target)
            if urlparse(target).scheme or not (address or anchor):
                continue
            file = (path.parent / unquote(address)).resolve() if address else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert not broken, broken
    fetched = {one for links in pages.values() for one in links.loaded if urlparse(one).scheme}
    assert not fetched, f"loaded from the net: {fetched}"


@needs_generator
@needs_chromium
def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path) -> None:
    wide: list[str] = []
    with chromium(tmp_path) as browser:
        for name in ("index", "concepts", "findings", "commands/map", "reference/space", "results/index"):
            browser.open((site / f"{name}.html").as_uri(), width=390, height=844, dark=True)
            inside = browser.run("document.documentElement.scrollWidth <= window.innerWidth")
            wide += [] if inside else [name]
        browser.open((site / "concepts.html").as_uri(), width=1280, height=900)
        drawn = browser.run("[...document.querySelectorAll('.drawing svg')].map(one => one.clientWidth)")
    assert not wide
    assert len(drawn) == 5 and min(drawn) > 400


@needs_generator
def test_llms_txt_lists_every_page(site: Path) -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text("utf-8"), flags=re.M)
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert set(listed) == built - {"404.md"} and len(listed) == len(set(listed))
    assert all((site / path).is_file() for path in listed)
    assert "# A first map in 15 minutes" in (site / "llms-full.txt").read_text("utf-8")


@needs_generator
def test_commands_and_options_are_those_of_the_program(site: Path) -> None:
    for name in COMMANDS:
        assert f"# personascope {name}\n" in (site / "commands" / f"{name}.md").read_text("utf-8")
    mapped = (site / "commands" / "map.md").read_text("utf-8")
    assert "| `--profile` | `quick` or `standard` or `paper` | `standard` |" in mapped
    assert "| `--seed` | integer, at least 0 | `0` |" in mapped
    assert "## personascope plan cap" in (site / "commands" / "plan.md").read_text("utf-8")


def test_every_page_links_to_what_exists() -> None:
    wrong: list[str] = []
    for page in written_pages():
        for target in re.findall(r"\]\(([^()\s#]+)", page.text):
            if not re.match(r"(https?|mailto|site):", target):
                path = (ROOT / page.source).parent / target
                wrong += [] if path.exists() else [f"{page.source}: {target}"]
    readme = (ROOT / "README.md").read_text("utf-8")
    wrong += [one for one in re.findall(r"\]\((?!https?:)([^()\s#]+)", readme) if not (ROOT / one).exists()]
    assert not wrong, wrong


def test_reference_names_are_those_of_the_package() -> None:
    names = exported(SOURCE)
    assert len(names) == 15 and names["PersonaMap"][0].name == "_persona_map.py"
    assert all(path.is_file() for path, _ in names.values())
    assert exported(SOURCE / "space")["PersonaMap"][0].parent.name == "space"


def test_docstrings_become_lists() -> None:
    found = as_markdown(
        "Do it.\n\n    More [d].\n\n    Args:\n        one (int): First\n            line.\n"
        "        two: Second.\n\n"
        "    Raises:\n        UsageError: If not.\n    "
    )
    assert found == (
        "Do it.\n\nMore \\[d\\].\n\n**Arguments**\n\n- `one`: First line.\n- `two`: Second.\n\n"
        "**Raises**\n\n- `UsageError`: If not."
    )


def test_errors_are_found_with_their_hints(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "errors.py").write_text("class PersonascopeError(Exception):\n    'Base.'\n")
    (room / "_one.py").write_text(
        "HINT = 'give another'\n"
        "class OwnError(PersonascopeError):\n    'Own.'\n"
        "def f(name, words):\n"
        "    if name: raise OwnError(f'there is no {name!r} among {len(words)}', hint=HINT)\n"
        "    raise OwnError('a' if words else 'b')\n"
        "    raise OwnError(words)\n"
    )
    classes = error_classes(tmp_path)
    assert classes == {"PersonascopeError": "Base.", "OwnError": "Own."}
    rows = [(one.message, one.hint, one.room) for one in raised(tmp_path, set(classes))]
    # The last one is handed on: its words stand where they are written.
    assert sorted(rows) == [("a / b", "", "room"), ("there is no ⟨name⟩ among ⟨…⟩", "give another", "room")]
    ours = list(raised(SOURCE, set(error_classes(SOURCE))))
    assert len(ours) > 600 and sum(bool(one.hint) for one in ours) > 0.7 * len(ours)
