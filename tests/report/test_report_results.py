"""Results of a run on its report: read, shown in the page, and saved as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.chromium import Page, chromium, needs_chromium
from personascope.errors import StoreError
from personascope.report.map_page._data import LayerView, ReportData, Sample
from personascope.report.map_page._layers import as_point, short, shown_layers
from personascope.report.map_page._page import render
from personascope.report.map_page._result_views import EvaluationView, Range, Row, SweepCell, SweepView
from personascope.report.map_page._results import (
    ResultFiles,
    evaluations_of,
    monitor_of,
    sweep_of,
    talks_of,
)
from personascope.report.map_page._samples import cut, text_limit
from report.report_case import HOSTILE, report_data

PUT = "(id, v, e) => { const s = document.getElementById(id); s.value = v; s.dispatchEvent(new Event(e)); }"


def interval(estimate: float | None, n: int = 8) -> dict[str, Any]:
    spread = None if estimate is None else 0.1
    return {
        "estimate": estimate,
        "low": None if spread is None else estimate - spread,  # type: ignore[operator]
        "high": None if spread is None else estimate + spread,  # type: ignore[operator]
        "n": n,
        "n_clusters": 2,
    }


def result(condition: str, kind: str, estimate: float | None, **more: Any) -> dict[str, Any]:
    n = 0 if estimate is None else 8
    return {
        "condition": condition,
        "kind": kind,
        "measure": "assistant",
        "share": interval(estimate, n),
    } | more


TABLE = {
    "name": "susceptibility",
    "results": [
        result("plain", "plain", 0.5),
        result("cap", "plan", 0.75, against_plain=interval(0.25), conclusion={"words": "an effect"}),
        result("random 0 of cap", "random", 0.5, control="isotropic", against_plain=interval(0.0)),
        result("cap", "plan", None) | {"measure": "never labelled"},
    ],
    "notes": ["60 of 60 responses are labelled"],
    "caveats": {"assistant": "of the offline judge"},
}
SWEEP = {
    "cells": [
        {
            "condition": "cap 1:3 p50", "kind": "axis", "control": None, "benefit": 0.2, "incoherent": 0.0,
            "firing_share": 0.3, "assistant": interval(0.3), "harmful": interval(-0.1),
            "capability": interval(0.0),
        }
    ],
    "recommended": None,
    "why": "none of the 1 cells does more than its controls",
    "jailbreak": TABLE,
}  # fmt: skip
STEERING = {
    "cells": [
        {
            "condition": name, "kind": "random" if control else "axis", "control": control, "benefit": 0.2,
            "incoherent": 0.0, "firing_share": 0.0, "assistant": interval(-0.2), "harmful": interval(0.1),
            "capability": interval(0.0), "kl": interval(0.15), "away": True, "strength": strength, "layer": 2,
        }
        for name, control, strength in (
            ("axis -0.1, layer 2", None, -0.1), ("random 0 at 0.1, layer 2", "isotropic", 0.1)
        )
    ],
    "front": ["axis -0.1, layer 2"],
    "recommended": "axis -0.1, layer 2",
    "why": "beyond its controls",
    "jailbreak": TABLE,
}  # fmt: skip
TALKS = {
    "layer": 2,
    "trajectories": {
        "layer": 2,
        "domains": [
            {
                "domain": "coding",
                "turns": [{"turn": 0, "position": interval(0.9)}, {"turn": 1, "position": interval(0.4)}],
                "change": interval(-0.5),
                "n_dialogues": 12,
            }
        ],
    },
}
MONITOR = {"false_alarms": {"cusum": interval(0.2)}, "others": {"cusum": {"therapy": interval(0.7)}}}
HARM = {
    "harmful": interval(0.25),
    "no_role": {"harmful": interval(0.0)},
    "bins": [{"low": -1.0, "high": 0.5, "position": 0.1, "share": interval(0.5)}],
    "notes": [],
    "caveat": "offline judge",
}
CAPABILITY = {
    "plain": {"tasks": {"basics": {"documents": 40, "headline": "acc,none", "metrics": {"acc,none": 0.5}}}},
}


def write(folder: Path, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(value))
    return folder / "results.json"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    files = ResultFiles(
        (
            write(tmp_path / "a", TABLE),
            write(tmp_path / "harm", HARM),
            write(tmp_path / "capability", CAPABILITY),
        ),
        write(tmp_path / "calibration", SWEEP),
        (("simulated", write(tmp_path / "simulated", TALKS)),),
        write(tmp_path / "monitor", MONITOR),
    )
    table, harm, capability = evaluations_of(files)
    assert [(row.condition, row.kind, row.share.estimate) for row in table.rows] == [
        ("plain", "plain", 0.5),
        ("cap", "plan", 0.75),
        ("random 0 of cap", "isotropic", 0.5),
    ]
    assert table.rows[1].conclusion == "an effect" and table.rows[1].change is not None
    assert table.caveats == {"assistant": "of the offline judge"}
    assert [row.condition for row in harm.rows] == [
        *("without a role", "in a role", "first reply at -1.00 to 0.50"),
    ]
    assert (capability.name, capability.rows[0].measure) == ("capability", "basics, acc")
    assert capability.rows[0].share == Range(0.5, None, None, 40)
    sweep = sweep_of(files.sweep)
    assert sweep is not None and sweep.cells[0].assistant.estimate == 0.3
    assert (sweep.recommended, sweep.notes) == ("", ("of the offline judge",))
    assert (sweep.away, sweep.cells[0].kl, sweep.cells[0].front) == (False, None, False)
    (talks,) = talks_of(files)
    assert (talks.name, talks.layer, talks.domains[0].turns) == ("simulated", 2, (0, 1))
    assert [(one.rule, one.of, one.alarms.estimate) for one in monitor_of(files)] == [
        ("cusum", "held out, Assistant-like", 0.2),
        ("cusum", "therapy", 0.7),
    ]


def test_a_sweep_of_steering_is_read_with_its_doses_and_its_price(tmp_path: Path) -> None:
    sweep = sweep_of(write(tmp_path, STEERING))
    assert sweep is not None and sweep.away and sweep.recommended == "axis -0.1, layer 2"
    own, control = sweep.cells
    assert (own.control, own.strength, own.layer, own.front) == ("", -0.1, 2, True)
    assert (control.control, control.strength, control.front) == ("isotropic", 0.1, False)
    assert own.kl is not None and own.kl.estimate == 0.15 and own.assistant.estimate == -0.2


def test_a_run_without_results_has_none(tmp_path: Path) -> None:
    files = ResultFiles((tmp_path / "no.json",), tmp_path / "x", (("y", tmp_path / "y"),), tmp_path / "z")
    assert (evaluations_of(files), sweep_of(files.sweep), talks_of(files), monitor_of(files)) == (
        (),
        None,
        (),
        (),
    )


@pytest.mark.parametrize("value", [{"results": [{"condition": 7}], "name": "x"}, {"plain": []}, {"bins": 3}])
def test_damaged_results_are_named(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path, value)
    with pytest.raises(StoreError, match=r"results\.json: the field"):
        evaluations_of(ResultFiles((path,)))


def test_the_longest_answers_are_cut_to_what_a_page_takes() -> None:
    few = [Sample("", "a" * 10, 3), Sample("", "é" * 5, 3)]
    assert text_limit(few, 100) > 10 and [cut(one, text_limit(few, 100)) for one in few] == few
    many = [Sample("Who?", "a" * 500, 3), Sample("Who?", "\u4f60" * 300, 2, cut=7)]
    limit = text_limit(many, 500)
    assert limit == 246
    first, second = (cut(one, limit) for one in many)
    assert (first.question, len(first.text), first.cut) == ("Who?", 246, 254)
    assert (len(second.text), second.cut) == (82, 218 + 7)


def steering_view() -> SweepView:
    """Return a sweep over two layers and three strengths with a control of each, one of them recommended."""

    def cell(layer: int, size: float, control: str = "") -> SweepCell:
        gain = (0.1 if control else 1.0) * size * layer
        up = Range(gain, gain - 0.05, gain + 0.05, 8)
        down = Range(-gain, -gain - 0.1, -gain + 0.1, 8)
        lost = Range(-size / 10, -0.1, 0.1, 8)
        kl = Range(size**2, 0.5 * size**2, 2 * size**2, 8)
        name = (
            f"{control} at {size:g}, layer {layer}" if control else f"axis {size:+g}, layer {layer}{HOSTILE}"
        )
        front = layer == 2 and not control
        return SweepCell(name, control, up, down, lost, 0.01, 0.0, gain, kl, size, layer, front)

    cells = [
        cell(layer, size, kind) for layer in (1, 2) for size in (0.05, 0.1, 0.2) for kind in ("", "shuffled")
    ]
    best = f"axis +0.1, layer 2{HOSTILE}"
    return SweepView(tuple(cells), best, "it does more than its controls", (HOSTILE,))


def with_layers() -> ReportData:
    data = report_data(n_roles=90, n_layers=3)
    raw = tuple(role.projection or 0 for role in data.roles)
    flipped = [tuple(-value for value in role.point or (0, 0, 0)) for role in data.roles]
    middle = LayerView(
        1, 2.0, 12.0, raw,
        tuple(role.point or (0, 0, 0) for role in data.roles), (13.0, 1.0, 0.5), (0.8, 0.2, 0.1), (0.5, 0.3),
    )  # fmt: skip
    other = replace(
        middle, layer=2, mean=0.0, default=1.0, projections=tuple(-value for value in raw),
        points=tuple(flipped),  # type: ignore[arg-type]
    )  # fmt: skip
    rows = (
        Row("plain", "plain", "assistant", Range(0.5, 0.4, 0.6, 8)),
        Row(HOSTILE, "plan", "assistant", Range(0.7, 0.6, 0.8, 8), Range(0.2, 0.1, 0.3, 8), HOSTILE),
        Row("plain", "plain", "mystical", Range(0.1, None, None, 8)),
    )
    return replace(
        data,
        layers=(middle, other),
        evaluations=(EvaluationView(HOSTILE, rows, (HOSTILE,), {}),),
        steering=steering_view(),
        middle_layer=1,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(render(with_layers()), encoding="utf-8")
    with chromium(folder / "profile") as found:
        found.open((folder / "report.html").as_uri())
        found.wait("document.documentElement.dataset.ready === '1'")
        yield found


def test_a_whole_map_of_a_large_model_has_less_than_six_megabytes() -> None:
    words = "A reply of a role goes on like this. " * 40
    data = report_data(n_roles=275, n_layers=80, text=words)
    limit = text_limit(one for role in data.roles for one in (*role.samples, role.samples[0]))
    shown = shown_layers(80, 275, 40)
    assert 40 in shown and len(shown) == 40
    rng = np.random.default_rng(0)
    raw, variance = tuple(map(short, rng.normal(size=275))), tuple(map(short, rng.random(64)))
    points = tuple(map(as_point, rng.normal(size=(275, 3))))
    views = tuple(
        LayerView(layer, -1.5, 12.5, raw, points, (1.0, 2.0, 3.0), (0.5, 0.5, 0.5), variance)
        for layer in shown
    )
    roles = tuple(
        replace(role, samples=tuple(cut(one, limit) for one in (*role.samples, role.samples[0])))
        for role in data.roles
    )
    assert len(render(replace(data, roles=roles, layers=views)).encode()) < 6e6


@needs_chromium
def test_positions_are_in_units_of_the_map_with_the_raw_projection_beside(page: Page) -> None:
    data = with_layers()
    best = max(data.roles, key=lambda role: role.projection or 0)
    assert best.projection is not None and best.low is not None and best.high is not None
    unit = [(value - 2) / 10 for value in (best.projection, best.low, best.high)]
    page.run(f"openRole('{best.name}')")
    told = page.run("document.getElementById('panel-place').textContent")
    minus = [f"{value:.2f}".replace("-", "\u2212") for value in (*unit, best.projection)]
    assert told.startswith(
        f"position {minus[0]} ({minus[1]} to {minus[2]}), raw {minus[3]} on the axis at layer 1"
    )
    assert page.run("document.querySelector('#ranking .default .at').textContent") == "1.00"


@needs_chromium
def test_another_layer_is_drawn_anew(page: Page) -> None:
    first = "document.querySelector('#ranking li:not(.default) .name').textContent"
    before = page.run(first)
    page.run(f"({PUT})('layer', '2', 'change')")
    assert page.run(first) != before
    assert "Layer 2." in page.run("document.getElementById('space-note').textContent")
    assert "computed at the middle layer, 1" in page.run(
        "document.getElementById('ranking-lead').textContent"
    )
    page.run(f"({PUT})('layer', '1', 'change')")
    assert page.run(first) == before


@needs_chromium
def test_groups_and_words_choose_roles(page: Page) -> None:
    page.run(f"({PUT})('group', 'myth', 'change')")
    assert "45 of 90 roles." in page.run("document.getElementById('ranking-lead').textContent")
    page.run(f"({PUT})('filter', 'role 04', 'input')")
    assert page.run("document.querySelectorAll('#ranking li:not(.default)').length") == 5
    page.run(f"({PUT})('group', '', 'change')")
    page.run(f"({PUT})('filter', '', 'input')")
    assert page.run("document.querySelectorAll('#ranking li.gap').length") in (1, 2)


@needs_chromium
def test_tables_are_saved_as_csv_and_names_are_no_formulas(page: Page) -> None:
    lines = page.run("csvOf(rankingRows())").split("\r\n")
    assert lines[0] == "rank,role,group,layer,position,low,high,raw projection,responses" and len(lines) == 92
    assert page.run("cell('=1+1')") == "'=1+1" and page.run("cell('a,\"b\"')") == '"a,""b"""'
    assert page.run("cell(-1.5)") == "-1.5"
    for part in ("layerRows()", "varianceRows()", "traitRows()"):
        assert page.run(f"csvOf({part})").count("\r\n") >= 1


@needs_chromium
def test_evaluations_are_shown_by_measure_and_run_nothing(page: Page) -> None:
    assert "plain" in page.run("document.querySelector('#evaluation-0 table').textContent")
    page.run("document.querySelector('#evaluation-0 select').id = 'measure'")
    page.run(f"({PUT})('measure', 'mystical', 'change')")
    assert page.run("document.querySelector('#evaluation-0 td:nth-child(2)').textContent") == "10.0%"
    assert page.run("window.hit") is None
    assert page.run("document.querySelectorAll('#results img').length") == 0


@needs_chromium
def test_a_sweep_of_steering_shows_dose_effect_price_controls_and_choice(page: Page) -> None:
    told = page.run("document.getElementById('steering').textContent")
    assert "Recommended: axis +0.1, layer 2" in told and "it does more than its controls" in told
    titles = "[...document.querySelectorAll('#steering .g-xtitle, #steering .g-x2title')]"
    page.wait(f"{titles}.length === 2", 20)
    assert set(page.run(f"{titles}.map((one) => one.textContent)")) == {
        *("KL from no plan, nats a token", "strength toward the Assistant"),
    }
    drawn = "document.querySelector('#steering .plot').data"
    names = page.run(f"{drawn}.filter((one) => one.xaxis === 'x').map((one) => one.name)")
    assert names == ["controls", "layer 1", "layer 2", "Pareto front", "recommended"]
    # The doses of a layer in order, and the same gains against their price.
    assert page.run(f"{drawn}.find((one) => one.xaxis === 'x2' && one.mode === 'lines+markers').x") == [
        0.05,
        0.1,
        0.2,
    ]
    assert page.run(f"{drawn}.find((one) => one.name === 'recommended').y") == [pytest.approx(0.2)]
    assert page.run(f"{drawn}.find((one) => one.name === 'recommended').x") == [pytest.approx(0.01)]
    assert page.run(f"{drawn}.filter((one) => one.name === 'controls').map((one) => one.x.length)") == [6, 6]
    tables = page.run("[...document.querySelectorAll('#steering table')].map((one) => one.rows.length)")
    assert tables == [7, 7]
    buttons = "[...document.querySelectorAll('#steering .saves button')].map((one) => one.textContent)"
    assert page.run(buttons) == ["CSV", "SVG"]


@needs_chromium
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.resize(width, 844)
    page.wait(f"innerWidth === {width}")
    page.wait(f"document.documentElement.scrollWidth <= {width}", 20)
    if width < 760:
        names = "[...document.querySelectorAll('#ranking .name')]"
        assert page.run(f"{names}.filter((one) => one.scrollWidth > one.clientWidth).length") == 0
