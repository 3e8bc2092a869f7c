"""Where a notebook installs the package from: what pyproject.toml names, in each and on the site."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tools.docsite._notebooks import notebook_pages
from tools.docsite._source import colab_link, install_source, repository

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = '[project]\nname = "personascope"\n'
URLS = PROJECT + '[project.urls]\nRepository = "https://github.com/lab/personascope.git"\n'


def first_cell(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_notebook_installs_from_the_address_of_the_project(path: Path) -> None:
    found = re.search(r'^SOURCE = "(.*?)"', first_cell(path), re.MULTILINE)
    assert found is not None and found[1] == install_source(ROOT), f"set SOURCE in {path.name}"
    told = re.findall(r"colab\.research\.google\.com[^)\s\"]*", path.read_text(encoding="utf-8"))
    assert all(colab_link(ROOT, path.name).endswith(link) for link in told)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("", "personascope[gguf,notebook,embed]"),
        ("git+https://host/a", "personascope[gguf,notebook,embed] @ git+https://host/a"),
    ],
)
def test_the_first_cell_asks_pip_for_what_it_reads(path: Path, source: str, wanted: str) -> None:
    from packaging.requirements import Requirement

    cell = re.sub(r'^SOURCE = "".*$', f"SOURCE = {source!r}", first_cell(path), flags=re.MULTILINE)
    (line,) = [line.strip() for line in cell.splitlines() if line.strip().startswith("WHAT = ")]
    values: dict[str, str] = {"SOURCE": source}
    exec(line, values)
    assert values["WHAT"] == wanted and '%pip install --quiet "{WHAT}"' in cell
    asked = Requirement(wanted)
    assert asked.extras == {"gguf", "notebook", "embed"} and (asked.url or "") == source


def test_no_page_names_another_address() -> None:
    own = repository(ROOT)
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for found in re.findall(r"git\+https://[\w./-]+", page.read_text(encoding="utf-8")):
            assert own and found == f"git+{own}", (page, found)


def test_a_project_with_an_address_has_links_that_open_in_colab(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    name = FILES[0].name
    (tmp_path / "notebooks" / name).write_bytes(FILES[0].read_bytes())
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert (repository(tmp_path), install_source(tmp_path), colab_link(tmp_path, name)) == ("", "", "")
    assert "Open in Colab" not in notebook_pages(tmp_path / "notebooks")[1].text
    (tmp_path / "pyproject.toml").write_text(URLS)
    assert install_source(tmp_path) == "git+https://github.com/lab/personascope"
    link = f"https://colab.research.google.com/github/lab/personascope/blob/main/notebooks/{name}"
    assert f"[Open in Colab]({link})" in notebook_pages(tmp_path / "notebooks")[1].text
    (tmp_path / "pyproject.toml").write_text(URLS.replace("github.com", "elsewhere.org"))
    assert colab_link(tmp_path, name) == "" and install_source(tmp_path).startswith(
        "git+https://elsewhere.org"
    )
