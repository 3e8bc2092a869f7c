"""The page in a real browser: two columns that stream, tint, chart, branch, undo, files, hostile texts."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_case import KEY, Served, serving

from helpers.chromium import Page, chromium, needs_chromium
from personascope.dynamics.monitor import Monitor, Threshold

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> "
    "</span><iframe src='javascript:1'> \u202e ${7*7} {{7*7}}"
)
DONE = "!document.querySelector('#send').hidden"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    monitor = Monitor(Threshold("token", 0.5, 4), layer=2)
    with serving(tmp_path_factory.mktemp("page"), key=None, monitor=monitor, slow=0.02) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(served: Served, browser: Page) -> Page:
    browser.problems.clear()
    browser.open(f"{served.url}/?{id(object())}")
    browser.wait("document.querySelectorAll('.picker').length === 2")
    return browser


def ask(page: Page, text: str, tokens: int = 12) -> None:
    page.run(
        f"(() => {{ const f = document.querySelector('#tokens'); f.value = {tokens}; "
        "f.dispatchEvent(new Event('change')); })()"
    )
    page.type("#message", text)
    page.key("Enter", 13, "\r")
    page.wait("document.querySelector('#message').value === ''")
    page.wait(DONE)


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
    token = {"text": HOSTILE, "part": "answer", "position": 0.5, "before": 0.1, "percentile": 50}
    reply = {"text": HOSTILE, "tokens": [token], "name": HOSTILE, "error": HOSTILE, "finish": HOSTILE}
    state = {
        "format": "personascope page 1",
        "columns": [{"kind": "plan", "plan": HOSTILE}, {"kind": HOSTILE}],
        "conversations": [{"turns": [{"user": HOSTILE, "replies": [reply, {"text": 7, "tokens": "x"}]}]}],
        "current": 10**9,
        "temperature": "hot",
        "__proto__": {"polluted": 1},
    }
    found = page.run(
        "import('/page/state.js').then((s) => { const taken = s.load(" + json.dumps(state) + ");"
        " document.querySelector('#by-token').click(); document.querySelector('#new').click();"
        " document.querySelector('#tabs button').click(); return [taken, s.state.temperature]; })"
    )
    assert found == [True, 0.7]
    assert page.run("document.querySelector('.col0 > .said span').textContent") == HOSTILE
    assert page.run("document.title") == f"{served.service.admission.model} · personascope"
    assert page.run("document.querySelectorAll('.talk img, .talk script, iframe').length") == 0
    assert page.run("({}).polluted === undefined")
    # The policy refuses what a fault of the page would let in.
    let_in = json.dumps("<img src=x onerror=\"document.title='owned'\">")
    page.run(f"document.body.insertAdjacentHTML('beforeend', {let_in})")
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert "owned" not in page.run("document.title")


@needs_chromium
def test_a_link_and_a_file_bring_the_page_back(served: Served, page: Page) -> None:
    ask(page, "Remember this")
    link = page.run("import('/page/state.js').then((s) => s.toLink())")
    state = page.run("import('/page/state.js').then((s) => JSON.stringify(s.saved()))")
    before = page.run("document.querySelector('.col0 > .said').textContent")
    page.open(f"{served.url}/?link{link}")
    page.wait("document.querySelector('#message').value === 'Remember this'")
    page.run("document.querySelector('#ask').requestSubmit()")
    page.wait("document.querySelectorAll('.reply > .said span').length > 2")
    page.wait(DONE)
    assert page.run("document.querySelector('.col0 > .said').textContent") == before
    page.open(f"{served.url}/?file")
    page.wait("document.querySelectorAll('.picker').length === 2")
    page.run(
        "(() => { const t = new DataTransfer(); t.items.add(new File(["
        + json.dumps(state)
        + "], 'page.json'));"
        " const f = document.querySelector('#file'); f.files = t.files;"
        " f.dispatchEvent(new Event('change')); })()"
    )
    page.wait("document.querySelector('.col0 > .said') !== null")
    assert page.run("document.querySelector('.col0 > .said').textContent") == before
    assert page.run("document.querySelectorAll('.col1 > .said span.t10').length") > 0
    assert page.problems == []


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
