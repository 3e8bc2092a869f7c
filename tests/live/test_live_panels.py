"""The persona space and the layers on the page, and the page under axe-core."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from live_case import Served
from page_case import ask

from helpers.chromium import Page, needs_chromium

AXE = find_spec("axe_playwright_python") or find_spec("axe_core_python")
"""Package that carries axe-core, which checks a page for what keeps people out; the first has it newer."""


@needs_chromium
def test_the_space_has_the_conversation_in_it_and_turns(page: Page) -> None:
    ask(page, "What is rain?")
    page.click("#tab-space")
    assert page.run("document.querySelectorAll('#space .role').length") == 8
    assert page.run("document.querySelectorAll('#space .default, #space .axis').length") == 2
    assert page.run("document.querySelectorAll('#space .p0, #space .p1').length") == 2
    near = page.run("document.querySelector('#space .near').textContent")
    roles = page.run(
        "import('/page/state.js').then((s) => s.conversation().turns[0].replies[0].nearest.roles)"
    )
    assert f"No plan, turn 1: nearest roles {roles[0]['name']} {roles[0]['cosine']:.2f}" in near
    flat = page.run("document.querySelector('#space svg').innerHTML")
    page.click("#deep")
    deep = page.run("document.querySelector('#space svg').innerHTML")
    page.run("document.querySelector('#space svg').focus()")
    page.key("ArrowRight", 39)
    turned = page.run("document.querySelector('#space svg').innerHTML")
    assert len({flat, deep, turned}) == 3
    for mark in ("role", "p0", "p1", "default"):
        assert f'class="{mark}' in turned.replace("'", '"')
    ask(page, "And snow?")
    assert page.run("document.querySelector('#space .line.c0').getAttribute('points').split(' ').length") == 2
    page.click("#before")
    assert page.run("document.querySelectorAll('#space .p1').length") == 2
    assert page.problems == []


@needs_chromium
def test_the_drawer_by_layer_shows_a_reply_and_a_token(page: Page) -> None:
    ask(page, "What is rain?")
    page.click("#tab-layers")
    assert "at layer 2 alone" in page.run("document.querySelector('#layers').textContent")
    page.click("#read-layers")
    ask(page, "And snow?")
    assert page.run("document.querySelectorAll('#layers .line').length") == 2
    assert "Turn 2: the whole reply" in page.run("document.querySelector('#layers').textContent")
    # The cap of the tiny model acts at one layer, and only the right column has it.
    assert page.run("document.querySelectorAll('#layers .moved.c1').length") >= 1
    assert page.run("document.querySelectorAll('#layers .moved.c0').length") == 0
    page.run("document.querySelectorAll('.turn')[1].querySelector('.col1 > .said').focus()")
    page.key("ArrowRight", 39)
    told = page.run("document.querySelector('#layers').textContent")
    assert "the token" in told and page.run("document.querySelectorAll('#layers .line').length") == 1
    assert page.problems == []


@needs_chromium
def test_panels_are_tabs_for_the_keyboard(page: Page) -> None:
    page.run("document.querySelector('#tab-path').focus()")
    for name in ("space", "layers", "path"):
        page.key("ArrowRight", 39)
        assert page.run("document.activeElement.id") == f"tab-{name}"
        assert not page.run(f"document.querySelector('#panel-{name}').hidden")
    assert page.run("document.querySelectorAll('[role=tab][aria-selected=true]').length") == 1


@needs_chromium
@pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(served: Served, browser: Page, dark: bool) -> None:
    assert AXE is not None and AXE.submodule_search_locations
    axe = (Path(AXE.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
    faults: dict[str, list[str]] = {}

    def check(where: str) -> None:
        browser.run("document.getAnimations().forEach((one) => one.finish())")
        found = browser.run(
            "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.map((v) => ({ "
            "id: v.id, impact: v.impact, nodes: v.nodes.map((n) => n.html.slice(0, 200) + n.failureSummary) "
            "})))"
        )
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        if serious:
            faults[where] = [f"{one['id']}: {one['nodes'][:3]}" for one in serious]

    for width in (1280, 360):
        browser.open(f"{served.url}/?axe{width}{dark}", width=width, height=900, dark=dark)
        browser.wait("document.querySelectorAll('.picker').length === 2")
        browser.wait("document.querySelectorAll('#recordings button').length === 3")
        browser.run(axe + "; 0")
        check("empty")
        browser.run("document.querySelector('#settings').open = true")
        browser.run("document.querySelector('#read-layers').click()")
        browser.run(
            "(() => { const s = document.querySelector('[aria-label=\"Plan of the right column\"]'); "
            "s.value = 'cap'; s.dispatchEvent(new Event('change')); })()"
        )
        ask(browser, "What is rain?")
        ask(browser, "And snow?")
        for panel in ("path", "space", "layers"):
            browser.click(f"#tab-{panel}")
            check(panel)
        browser.click("#tab-space")
        browser.click("#deep")
        check("deep")
        browser.click("#flat")
        browser.click("#tab-path")
        browser.click("#by-token")
        check("tokens")
        browser.click('[aria-label="Edit, message 1"]')
        check("edit")
        browser.click("#share")
        check("share")
        browser.run("document.querySelector('#sharing').close()")
        browser.click("#compare")
        check("compare")
        browser.run("document.querySelector('#comparing').close()")
        browser.click("#tour")
        browser.wait("!document.querySelector('#touring').hidden")
        check("tour")
        browser.key("Escape", 27)
        browser.click("#by-turn")
    assert faults == {}
    browser.run("document.body.append(document.createElement('button'))")
    check("a button without a name")
    assert "button-name" in faults["a button without a name"][0]
