"""The page of a comparison: whole, offline, inert, and drawn by a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from report_case import HOSTILE
from test_report_page import Page, needs_chromium, run_chromium

from personascope.comparison import (
    ComponentMatch,
    ComponentMatching,
    DefaultPlaces,
    Dimensions,
    Geometry,
    MapComparison,
    MapSummary,
    PairComparison,
    PairFigure,
    RoleAgreement,
    Statistic,
)
from personascope.report import write_comparison
from personascope.report.compare_page._page import render_comparison


def comparison(text: str = HOSTILE) -> MapComparison:
    """Three maps, two of one width; every text is hostile."""
    one = Statistic(0.8, 0.7, 0.9, 0.2, 0.0005)
    low = Statistic(-0.1, -0.3, 0.1, 0.2, 0.5)
    bare = Statistic(0.9, float("nan"), 1.0)
    both = PairFigure(bare, bare, bare)
    matching = ComponentMatching(1, (one,), (ComponentMatch(1, 1, one),), one, one, (low,), (one,))
    pair = PairComparison(
        "A", "B", (f"poet {text}", "judge_two"), ("only_here",), (), matching, RoleAgreement(low, low),
        RoleAgreement(one, one), DefaultPlaces(both, both), Dimensions(both, both, both),
        Geometry(one, one, (12.0,)), "", (f"note {text}",), ((0.5, 1.0), (2.0, -1.0)),
        ((0.1, 0.2), (0.3, 0.4)),
    )  # fmt: skip
    maps = tuple(
        MapSummary(
            label, f"{label} {text}", text, "answer", 1, 3, 24, 2, "d0", "c0", grade, (text,), float("nan")
        )
        for label, grade in (("A", "found"), ("B", "not found"), ("C", "unknown"))
    )
    others = [
        replace(pair, first=a, second="C", geometry=None, not_comparable="widths 24 and 30")
        for a in ("A", "B")
    ]
    return MapComparison(maps, (pair, *others), (f"warning {text}",), ("How.",), 50, 0)


@pytest.fixture(scope="module")
def text() -> str:
    return render_comparison(comparison())


def test_the_page_loads_nothing_and_hostile_text_is_no_markup(text):
    page = Page(text)
    assert not [(t, a) for t, a in page.tags if {"src", "href", "srcset", "data"} & set(a)]
    policies = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert len(policies) == 1 and "default-src 'none'" in policies[0] and "'unsafe-eval'" not in policies[0]
    tags = [t for t, _ in page.tags]
    assert tags.count("script") == 3 and "img" not in tags
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]


def test_the_payload_has_the_figures(text):
    data = json.loads(Page(text).scripts[0])
    assert data["pairs"][0]["roles"][0] == f"poet {HOSTILE}"
    assert data["pairs"][0]["matrix"]["PC1 with PC1"]["value"] == 0.8
    assert data["pairs"][0]["apart"][0]["figure"]["first"]["low"] is None
    assert data["pairs"][1]["angles"] is None


@needs_chromium
def test_chromium_draws_the_page_and_runs_nothing_hostile(tmp_path, text):
    page = tmp_path / "compare.html"
    probe = "<script>document.documentElement.dataset.probe = 'ran'</script>"
    page.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = run_chromium(page, tmp_path / "profile", "--dump-dom", "--window-size=1280,2000")
    root = re.search(r"<html[^>]*>", done.stdout)
    assert root and 'data-ready="1"' in root[0] and "data-probe" not in root[0]
    assert not re.findall(r"Uncaught|TypeError|ReferenceError", done.stderr)
    shown = Page(done.stdout)
    assert not [a for t, a in shown.tags if t == "img" and "onerror" in a]
    assert re.search(r'id="scatter" class="[^"]*js-plotly-plot', done.stdout)
    assert done.stdout.count('class="cell') == 3
    assert "In A alone, 1: only here." in done.stdout
    assert 'class="grade not-found"' in done.stdout


def test_the_page_is_written_whole(tmp_path):
    path = write_comparison(comparison("plain"), tmp_path / "x.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [one.name for one in tmp_path.iterdir()] == ["x.html"]
