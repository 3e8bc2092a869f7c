"""The page: whole, offline, and inert whatever the model wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs
from report_case import HOSTILE, report_data

from personascope.report.map_page._data import Curves, Figure, Trait
from personascope.report.map_page._page import payload, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Page(HTMLParser):
    """Tags, attributes and script texts, as an HTML parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag == "script":
            self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(report_data()))


def test_the_page_loads_nothing(page):
    text = render(report_data())
    own = text.replace(get_plotlyjs().replace("</script", "<\\/script"), "")
    assert len(own) < len(text) - 1_000_000
    assert not re.findall(r"https?://|fetch\(|XMLHttpRequest|import\(|@import|url\(", own)
    assert not [(t, a) for t, a in page.tags if {"src", "href", "srcset", "data"} & set(a)]
    policies = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "'unsafe-eval'" not in policies[0]
    assert "script-src 'unsafe-inline'" not in policies[0]


def test_payload_parses_and_keeps_what_the_model_wrote(page):
    assert len(page.scripts) == 3
    data = json.loads(page.scripts[0])
    assert data["roles"][0]["samples"][0]["text"] == f"I am {HOSTILE}"
    assert data["roles"][0]["counts"] == {"score 3": 20, "score 2": 5, "score 1": 2, "score 0": 1}
    assert len(data["curves"]["cosine"]) == 30
    assert data["figures"][0]["value"] == 0.82


def test_hostile_text_is_no_markup(page):
    assert not [t for t, _ in page.tags if t == "img"]
    assert [t for t, _ in page.tags].count("script") == 3
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert not re.findall("[<>&]", payload(report_data()))


def test_hostile_names_are_no_markup():
    data = report_data(n_roles=3)
    data = replace(data, model=HOSTILE, corpus=HOSTILE, roles=(replace(data.roles[0], name=HOSTILE),))
    tags = [t for t, _ in Page(render(data)).tags]
    assert tags.count("script") == 3
    assert "img" not in tags


def test_placeholders_in_the_data_stay_text():
    data = json.loads(Page(render(replace(report_data(n_roles=3), corpus="%%SCRIPT%%"))).scripts[0])
    assert data["corpus"] == "%%SCRIPT%%"


def test_payload_turns_what_is_not_finite_into_null_and_keeps_lone_surrogates():
    data = replace(
        report_data(n_roles=3), figures=(Figure("x", float("nan"), float("-inf")),), corpus="\ud800"
    )
    text = payload(data)
    text.encode("utf-8")
    parsed = json.loads(text)
    assert parsed["figures"][0]["value"] is None
    assert parsed["figures"][0]["low"] is None
    assert parsed["corpus"] == "\ud800"


def run_chromium(page: Path, profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--use-gl=swiftshader",
            "--enable-unsafe-swiftshader",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--virtual-time-budget=4000",
            f"--user-data-dir={profile}",
            *arguments,
            page.as_uri() + "#role_001",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@needs_chromium
def test_chromium_draws_the_page_and_runs_nothing_hostile(tmp_path):
    page = tmp_path / "report.html"
    # The probe is outside the policy's hashes, so a policy that is not in force would show too.
    probe = "<script>document.documentElement.dataset.probe = 'ran'</script>"
    page.write_text(render(report_data()).replace("</body>", probe + "</body>"), encoding="utf-8")
    done = run_chromium(page, tmp_path / "profile", "--dump-dom", "--window-size=1280,2000")
    dom = done.stdout
    root = re.search(r"<html[^>]*>", dom)
    assert root
    assert 'data-ready="1"' in root[0]
    assert "data-probe" not in root[0]
    assert not re.findall(r"Uncaught|TypeError|ReferenceError", done.stderr)
    shown = Page(dom)
    assert not [a for t, a in shown.tags if t == "img" and "onerror" in a]
    assert "I am &lt;/script&gt;&lt;script&gt;window.hit=1" in dom
    # Thirty roles at each end, and the default.
    assert dom.count('class="entry') == 61 and dom.count('class="default"') == 1
    assert "30 more between these" in dom
    for plot in ("space", "layers", "variance"):
        assert re.search(rf'id="{plot}" class="[^"]*js-plotly-plot', dom), plot


@needs_chromium
def test_chromium_takes_a_picture_with_colour_in_it(tmp_path):
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render(report_data()), encoding="utf-8")
    run_chromium(page, tmp_path / "profile", f"--screenshot={picture}", "--window-size=1280,1400")
    assert picture.read_bytes().startswith(b"\x89PNG")
    # A blank page of this size compresses to some 10 KB.
    assert picture.stat().st_size > 60_000


@needs_chromium
def test_chromium_draws_a_map_with_little_in_it(tmp_path):
    page = tmp_path / "report.html"
    data = report_data(n_roles=3, n_layers=2)
    bare = tuple(replace(r, point=None, projection=None, low=None, high=None) for r in data.roles)
    bare_default = replace(data.default, point=None, projection=None)
    data = replace(data, roles=bare, default=bare_default, curves=Curves(), variance=(), figures=())
    page.write_text(render(data), encoding="utf-8")
    done = run_chromium(page, tmp_path / "profile", "--dump-dom")
    assert 'data-ready="1"' in done.stdout
    assert not re.findall(r"Uncaught|TypeError|ReferenceError", done.stderr)


@needs_chromium
def test_chromium_ranks_the_traits_of_a_map(tmp_path):
    page = tmp_path / "report.html"
    many = tuple(Trait(f"trait_{n:03}", 0.9 - n / 50, 0.8 - n / 50, 1 - n / 50) for n in range(89))
    many += (Trait("last", -0.9),)
    traits = (Trait(HOSTILE, 0.95, 0.9, 1.0, HOSTILE), *many)
    page.write_text(render(replace(report_data(), traits=traits, traits_notes=(HOSTILE,))), encoding="utf-8")
    done = run_chromium(page, tmp_path / "profile", "--dump-dom", "--window-size=1280,2000")
    assert not re.findall(r"Uncaught|TypeError|ReferenceError", done.stderr)
    assert done.stdout.count('class="entry still"') == 60 and "31 more between these" in done.stdout
    assert not [a for t, a in Page(done.stdout).tags if t == "img" and "onerror" in a]
    assert 'id="traits-card" hidden' not in done.stdout
    page.write_text(render(report_data()), encoding="utf-8")
    without = run_chromium(page, tmp_path / "profile", "--dump-dom").stdout
    assert 'id="traits-card" hidden' in without
