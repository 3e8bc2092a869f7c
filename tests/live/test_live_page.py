"""The page in a real browser: two columns that stream, tint, chart, branch, undo, files, hostile texts."""

from __future__ import annotations

import ast
import json
import shlex
import struct
import zlib
from pathlib import Path

import pytest
from live_case import KEY, Served, serving
from page_case import DONE, ask

from helpers.chromium import Page, needs_chromium

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> "
    "</span><iframe src='javascript:1'> \u202e ${7*7} {{7*7}}"
)


@needs_chromium
def test_both_columns_stream_with_the_engines_text(served: Served, page: Page) -> None:
    page.type("#message", "What is rain?")
    page.key("Enter", 13, "\r")
    page.wait(
        "!document.querySelector('#stop').hidden && "
        "[...document.querySelectorAll('.reply > .said')].every((node) => node.children.length > 0)"
    )
    page.wait(DONE)
    texts = page.run("[...document.querySelectorAll('.reply > .said')].map((node) => node.textContent)")
    for text, plan in zip(texts, (None, "high floor"), strict=True):
        options = {"temperature": 0.7, "max_tokens": 160, "seed": 0}
        alone = served.chat(field={"plan": plan}, **options)
        assert text == alone["choices"][0]["message"]["content"]
    tints = page.run(
        "[...new Set([...document.querySelectorAll('.col1 > .said span')].map((n) => n.className))]"
    )
    assert tints == ["t10"]
    assert "moved +" in page.run("document.querySelector('.reply.col1 .meta').textContent")
    assert page.run("document.querySelectorAll('#chart .p0, #chart .p1').length") == 2
    assert page.run("document.querySelectorAll('#chart .limit').length") == 1
    assert page.problems == []


@needs_chromium
def test_a_token_tells_its_position_to_mouse_and_keyboard(page: Page) -> None:
    ask(page, "What is rain?")
    box = page.run(
        "(() => { const b = document.querySelector('.col1 > .said span').getBoundingClientRect(); "
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    told = page.wait(
        "document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').textContent"
    )
    assert "position +" in told and "before the plan" in told and "percentile" in told
    page.run("document.querySelector('.col0 > .said').focus()")
    page.key("ArrowRight", 39)
    page.key("ArrowRight", 39)
    assert (
        page.run("[...document.querySelector('.col0 > .said').children].findIndex((n) => n.matches('.on'))")
        == 1
    )
    assert "position" in page.run("document.querySelector('#status').textContent")
    page.key("Escape", 27)
    assert page.run("document.querySelector('#tip').hidden")


@needs_chromium
def test_branch_edit_undo_and_stop(page: Page) -> None:
    ask(page, "First")
    ask(page, "Second")
    assert page.run("document.querySelectorAll('.turn').length") == 2
    page.run("document.querySelector('[aria-label=\"Branch, message 1\"]').click()")
    assert page.run("document.querySelectorAll('.turn').length") == 1
    assert page.run("document.querySelectorAll('#tabs button').length") == 2
    assert page.run("document.querySelectorAll('#chart .other').length") == 2
    page.run("document.querySelector('[aria-label=\"Edit, message 1\"]').click()")
    page.type(".user textarea", "Changed")
    page.run("document.querySelector('.user form').requestSubmit()")
    page.wait("document.querySelector('.user .text')?.textContent === 'Changed'")
    page.wait(DONE)
    page.click("#undo")
    assert page.run("document.querySelector('.user .text').textContent") == "First"
    page.click("#undo")
    assert page.run("document.querySelectorAll('.turn').length") == 2
    page.run("(() => { const f = document.querySelector('#tokens'); f.value = 100000; "
             "f.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.type("#message", "Third")
    page.key("Enter", 13, "\r")
    page.wait("document.querySelectorAll('.turn:nth-child(3) .reply > .said span').length > 1")
    page.click("#stop")
    page.wait(DONE)
    assert page.problems == []


@needs_chromium
def test_hostile_texts_are_texts(served: Served, page: Page) -> None:
    ask(page, HOSTILE, tokens=2)
    assert page.run("document.querySelector('.user .text').textContent") == HOSTILE.strip()
    state = page.run("import('/page/files.js').then((f) => f.saved())")
    talk = state["conversations"][0]
    talk |= {"title": HOSTILE, "note": HOSTILE, "names": [HOSTILE, HOSTILE]}
    for reply in talk["turns"][0]["replies"]:
        reply |= {"text": HOSTILE, "name": HOSTILE, "error": HOSTILE, "finish": HOSTILE[:90]}
        reply["tokens"]["text"] = [HOSTILE for _ in reply["tokens"]["text"]]
        reply["nearest"]["roles"][0]["name"] = HOSTILE
    state["sources"][0] |= {"model": HOSTILE, "provenance": {"date": HOSTILE, HOSTILE: HOSTILE}}
    state["sources"][0]["space"]["roles"][0]["name"] = HOSTILE
    state["__proto__"] = {"polluted": 1}
    page.run(f"import('/page/files.js').then((f) => f.take(JSON.parse({json.dumps(json.dumps(state))})))")
    for panel in ("#by-token", "#tab-space", "#deep", "#tab-layers", "#tab-path", "#new", "#compare"):
        page.click(panel)
    page.run("document.querySelector('#comparing').close()")
    page.click("#tabs button:nth-child(2)")
    assert page.run("document.querySelector('.col0 > .said span').textContent") == HOSTILE
    assert page.run("document.title") == f"{served.service.admission.model} · personascope"
    assert page.run("document.querySelectorAll('main img, main script, iframe').length") == 0
    assert page.run("({}).polluted === undefined")
    # The policy refuses what a fault of the page would let in.
    let_in = json.dumps("<img src=x onerror=\"document.title='owned'\">")
    page.run(f"document.body.insertAdjacentHTML('beforeend', {let_in})")
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert "owned" not in page.run("document.title")


@needs_chromium
def test_a_link_brings_settings_and_messages_back(served: Served, page: Page) -> None:
    page.run("(() => { const f = document.querySelector('#seed'); f.value = 5; "
             "f.dispatchEvent(new Event('change')); })()")  # fmt: skip
    ask(page, "Remember this")
    link = page.run("import('/page/state.js').then((s) => s.toLink())")
    before = page.run("document.querySelector('.col0 > .said').textContent")
    page.open(f"{served.url}/?link{link}")
    page.wait("document.querySelector('#message').value === 'Remember this'")
    page.run("document.querySelector('#ask').requestSubmit()")
    page.wait("document.querySelectorAll('.reply > .said span').length > 2")
    page.wait(DONE)
    assert page.run("document.querySelector('.col0 > .said').textContent") == before
    assert page.problems == []
    page.open(f"{served.url}/?bad#s=bm90IGpzb24")
    page.wait("!document.querySelector('#notice').hidden")
    assert "The link cannot be read" in page.run("document.querySelector('#notice').textContent")


@needs_chromium
def test_sliders_act_on_the_next_reply_and_columns_are_copied(served: Served, page: Page) -> None:
    def choose(kind: str) -> None:
        page.run(
            "(() => { const s = document.querySelector('[aria-label=\"Plan of the right column\"]'); "
            f"s.value = '{kind}'; s.dispatchEvent(new Event('change')); }})()"
        )

    def slide(label: str, value: float) -> None:
        page.run(
            f"(() => {{ const s = document.querySelector('[aria-label=\"{label}\"]'); s.value = {value}; "
            "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change')); })()"
        )

    def copied(label: str) -> str:
        page.run(
            "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: { "
            "writeText: async (text) => { window.copied = text; } } })"
        )
        page.click(f'[aria-label="{label}"]')
        return page.wait("window.copied")

    choose("cap")
    for label, value in (("Floor of the right cap", 90), ("First layer of the right cap", 1),
                         ("Last layer of the right cap", 2)):  # fmt: skip
        slide(label, value)
    assert json.loads(copied("Copy the plan of the right column")) == {
        "cap": {"percentile": 90, "layers": [1, 3]}
    }
    ask(page, "It's “rain” \U0001f327?")
    told = served.chat(
        "It's “rain” \U0001f327?",
        {"plan": {"cap": {"percentile": 90, "layers": [1, 3]}}},
        temperature=0.7, seed=0,
    )  # fmt: skip
    reply = page.run("document.querySelector('.col1 > .said').textContent")
    assert reply == told["choices"][0]["message"]["content"]
    choose("steer")
    slide("Strength of the right steering", -0.3)
    slide("Layer of the right steering", 1)
    plan = json.loads(copied("Copy the plan of the right column"))
    assert plan == {"steer": {"strength": -0.3, "layer": 1}}
    curl = copied("Copy the request of the right column as curl")
    body = json.loads(shlex.split(curl)[-1])
    assert curl.startswith(f"curl {served.url}/v1/chat/completions")
    assert served.http("POST", "/v1/chat/completions", json=body).status_code == 200
    page.run("window.copied = ''")
    source = copied("Copy the request of the right column as Python")
    (call,) = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
               and ast.unparse(node.func) == "client.chat.completions.create"]  # fmt: skip
    given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    assert given.pop("extra_body") | given == body
    assert page.problems == []


@needs_chromium
def test_a_click_on_the_trajectory_goes_to_its_place(page: Page) -> None:
    ask(page, "First", tokens=40)
    ask(page, "Second", tokens=40)
    page.run("document.querySelector('#chart .p0').dispatchEvent(new MouseEvent('click'))")
    assert page.run("document.activeElement === document.querySelector('.turn .reply.col0')")
    page.run("document.querySelector('#chart .p1[aria-label*=\"turn 2\"]').focus()")
    page.key("Enter", 13, "\r")
    assert page.run("document.activeElement === document.querySelectorAll('.turn .reply.col1')[1]")
    page.click("#by-token")
    page.run(
        "(() => { const svg = document.querySelector('#chart svg'); const box = svg.getBoundingClientRect(); "
        "svg.dispatchEvent(new MouseEvent('click', { clientX: box.right - 14, clientY: box.top + 40 })); })()"
    )
    last = "[...document.querySelectorAll('.turn:nth-child(2) .said span.on')].length"
    assert page.run(last) == 1
    assert "position" in page.run("document.querySelector('#tip').textContent")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(
    served: Served, browser: Page, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.problems.clear()
    browser.open(f"{served.url}/?{width}{dark}", width=width, height=800, dark=dark)
    browser.wait("document.querySelectorAll('.picker').length === 2")
    ask(browser, "A long word: " + "x" * 300)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    unnamed = browser.run(
        "[...document.querySelectorAll('button, input, select, textarea, [role=button]')].filter((node) => "
        "node.type !== 'file' && !node.textContent.trim() && !node.getAttribute('aria-label') && "
        "!node.labels?.length).length"
    )
    assert unnamed == 0
    picture = browser.picture(tmp_path / "page.png")
    assert len(colours(picture)) > 30
    assert browser.problems == []


@needs_chromium
def test_a_key_is_asked_for(browser: Page, tmp_path: Path) -> None:
    with serving(tmp_path, with_map=False) as served:
        browser.open(served.url)
        browser.wait("!document.querySelector('#keyform').hidden")
        browser.type("#key", KEY)
        browser.run("document.querySelector('#keyform').requestSubmit()")
        browser.wait("document.querySelectorAll('.picker').length === 2")
        ask(browser, "Without a map")
        assert "no map" in browser.run("document.querySelector('#chart-note').textContent")
        assert browser.run("document.querySelector('.col0 > .said').textContent.length") > 0


def colours(path: Path) -> set[bytes]:
    """Return the colours of a PNG of 8 bits a channel, every eighth pixel of every eighth row."""
    raw = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", raw[16:26])
    assert depth == 8 and kind in (2, 6)
    size = 3 if kind == 2 else 4
    data, at = b"", 8
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 4], "big")
        if raw[at + 4 : at + 8] == b"IDAT":
            data += raw[at + 8 : at + 8 + length]
        at += 12 + length
    rows = zlib.decompress(data)
    stride = width * size + 1
    return {
        rows[y * stride + 1 + x * size : y * stride + 1 + x * size + size]
        for y in range(0, height, 8)
        for x in range(0, width, 8)
    }
