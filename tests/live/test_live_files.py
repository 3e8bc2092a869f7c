"""Saving, opening, sharing and comparing what the page shows, and replaying without a model."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from live_case import Served
from page_case import ask, give, state_of

from helpers.chromium import Page, needs_chromium

RECORDINGS = Path(__file__).parents[2] / "src/personascope/live/assets/recordings"
SAID = "[...document.querySelectorAll('.reply > .said')].map((n) => n.textContent)"
NOTICE = "document.querySelector('#notice').textContent"


def shared(page: Page) -> str:
    return page.run("import('/page/files.js').then((f) => f.sharedPage())")


def counted(page: Page) -> str:
    """Count the requests to the server's model from now on, and return the expression of their number."""
    page.run(
        "(() => { const inner = window.fetch; window.asked = 0; window.fetch = (path, ...more) => { "
        "if (String(path).startsWith('/v1/chat')) window.asked += 1; return inner(path, ...more); }; })()"
    )
    return "window.asked"


@needs_chromium
def test_a_saved_file_brings_everything_back(served: Served, page: Page) -> None:
    page.run("document.querySelector('#read-layers').click()")
    ask(page, "Remember this")
    ask(page, "And this")
    state = state_of(page)
    value = json.loads(state)
    assert (value["format"], value["version"]) == ("personascope live", 2)
    reply = value["conversations"][0]["turns"][0]["replies"][1]
    told = served.chat("Remember this", {"plan": "high floor", "layers": True}, temperature=0.7, seed=0)
    tokens = told["personascope"]["tokens"]
    # The values are the server's own, none of them rounded or left out.
    for name in ("text", "position", "before", "percentile", "layers"):
        assert reply["tokens"][name] == [token[name] for token in tokens], name
    assert value["sources"][0]["map"]["projections"]["default"]
    page.open(f"{served.url}/?file")
    page.wait("document.querySelectorAll('.picker').length === 2")
    give(page, "page.json", state)
    page.wait("document.querySelectorAll('.turn').length === 2")
    assert state_of(page) == state
    # It goes on where it was, because model and map are the server's.
    ask(page, "Go on")
    assert page.run("document.querySelectorAll('.turn').length") == 3
    for _ in range(2):
        page.click("#undo")
    assert page.run("document.querySelectorAll('.turn').length") == 0
    assert page.problems == []


BAD: tuple[tuple[str, Any, str], ...] = (
    ("conversations.0.turns.0.replies.1.tokens.position.0", "near", "tokens.position[0] is \"near\""),
    ("conversations.0.turns.0.replies.1.tokens.before", [], "tokens.before is []"),
    ("conversations.0.settings.columns.0.kind", "erase", "should be one of none, plan, cap, steer"),
    ("conversations.0.settings.temperature", "hot", "settings.temperature is \"hot\""),
    ("conversations.0.source", 3, "conversations[0].source is 3"),
    ("sources.0.map.layer", -1, "sources[0].map.layer is -1"),
    ("conversations", [], "a list with a conversation"),
    ("current", 9, "current is 9"),
    ("version", 3, "version 3 of the format"),
    ("format", "other", "not a file that this page saved"),
)  # fmt: skip


@needs_chromium
def test_a_bad_file_says_what_is_wrong_and_changes_nothing(page: Page) -> None:
    ask(page, "Stay")
    state = state_of(page)
    for path, value, word in BAD:
        broken = json.loads(state)
        inner, *names = broken, *path.split(".")
        for name in names[:-1]:
            inner = inner[int(name) if isinstance(inner, list) else name]
        inner[int(names[-1]) if isinstance(inner, list) else names[-1]] = value
        page.run("document.querySelector('#notice').textContent = ''")
        give(page, "bad.json", json.dumps(broken))
        told = page.wait(NOTICE)
        assert told.startswith("bad.json cannot be opened") and word in told and "Nothing here" in told, told
        assert state_of(page) == state
    for text in ("", "{", "[]", "null", "<html><p>no data</p></html>", "\u0000\u0001"):
        page.run("document.querySelector('#notice').textContent = ''")
        give(page, "bad.json", text)
        assert "cannot be opened" in page.wait(NOTICE)
    assert state_of(page) == state
    assert page.run("document.querySelectorAll('.turn').length") == 1


FUZZ = """
import('/page/format.js').then(({ read, FormatError }) => {
  let seed = 7;
  const random = (n) => { seed = (seed * 48271) % 2147483647; return seed % n; };
  const junk = [null, true, -1, 1e300, '', 'x', [], {}, [[]], { a: 1 }, [null], '__proto__', 0.5];
  const found = { taken: 0, refused: 0, other: [] };
  for (let number = 0; number < 600; number += 1) {
    const value = JSON.parse(TEXT);
    let inner = value;
    for (let depth = 0; depth < 2 + random(9); depth += 1) {
      const names = Object.keys(inner);
      const name = names[random(names.length)];
      const next = inner[name];
      if (next !== null && typeof next === 'object' && Object.keys(next).length && random(8)) inner = next;
      else {
        if (random(4)) inner[name] = junk[random(junk.length)];
        else delete inner[name];
        break;
      }
    }
    try {
      read(value);
      found.taken += 1;
    } catch (error) {
      if (error instanceof FormatError && error.message) found.refused += 1;
      else found.other.push(String(error));
    }
  }
  return found;
})
"""


@needs_chromium
def test_whatever_is_wrong_in_a_file_is_named(page: Page) -> None:
    text = (RECORDINGS / "basil.json").read_text()
    found = page.run(FUZZ.replace("TEXT", json.dumps(text)))
    assert found["other"] == [] and found["refused"] > 150 and found["taken"] > 20, found


@needs_chromium
def test_a_shared_page_opens_offline(served: Served, browser: Page, page: Page, tmp_path: Path) -> None:
    page.run("document.querySelector('#read-layers').click()")
    ask(page, "</script><script>document.title='owned'</script>")
    ask(page, "Second")
    said = page.run(SAID)
    tints = page.run("[...document.querySelectorAll('.said span')].map((n) => n.className)")
    file = tmp_path / "shared.html"
    file.write_text(shared(page), encoding="utf-8")
    assert "http" not in file.read_text().replace("http://www.w3.org/2000/svg", "").partition("<body>")[2]
    browser.problems.clear()
    browser.call("Network.enable")
    browser.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0,
                 uploadThroughput=0)  # fmt: skip
    try:
        browser.open(file.as_uri())
        browser.wait("document.querySelectorAll('.turn').length === 2")
        assert browser.run(SAID) == said
        assert browser.run("[...document.querySelectorAll('.said span')].map((n) => n.className)") == tints
        assert "owned" not in browser.run("document.title")
        assert all(
            browser.run(f"document.querySelector('{one}').hidden") for one in ("#ask", "#settings", "#new")
        )
        assert "no model behind it" in browser.run("document.querySelector('#model').textContent")
        assert browser.run("document.querySelector('#undo').disabled")
        assert browser.run("document.querySelectorAll('#chart .p0').length") == 2
        browser.click("#tab-space")
        assert browser.run("document.querySelectorAll('#space .role').length") > 3
        browser.click("#tab-layers")
        assert browser.run("document.querySelectorAll('#layers .line').length") == 2
        browser.run("window.counts = []; new MutationObserver(() => counts.push("
                    "document.querySelectorAll('.said span').length)).observe("
                    "document.querySelector('#turns'), { childList: true, subtree: true })")  # fmt: skip
        browser.click("#replay")
        browser.wait("document.querySelector('#status').textContent === 'The replay has ended.'")
        counts = browser.run("window.counts")
        assert counts[0] < 5 and len(set(counts)) > 10
        assert browser.run(SAID) == said
        assert browser.problems == []
    finally:
        browser.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1,
                     uploadThroughput=-1)  # fmt: skip
    # The page of a server opens it too, as it does JSON.
    browser.open(f"{served.url}/?shared")
    browser.wait("document.querySelectorAll('.picker').length === 2")
    give(browser, "shared.html", file.read_text())
    browser.wait("document.querySelectorAll('.turn').length === 2")


@needs_chromium
def test_two_saved_conversations_are_compared(served: Served, page: Page) -> None:
    ask(page, "What is rain?")
    first = state_of(page)
    other = json.loads(first)
    other["conversations"][0]["title"] = "Another map"
    other["sources"][0]["map"]["digest"] = "f" * 64
    page.open(f"{served.url}/?compare")
    page.wait("document.querySelectorAll('.picker').length === 2")
    give(page, "first.json", first)
    page.wait("document.querySelectorAll('.turn').length === 1")
    give(page, "second.json", json.dumps(other))
    page.wait("document.querySelectorAll('#tabs button').length === 2")
    # One of another map can be read and not continued.
    assert page.run("document.querySelector('#ask').hidden")
    assert "not continued" in page.run("document.querySelector('#origin').textContent")
    page.click("#compare")
    labels = page.run("[...document.querySelectorAll('#compare-left option')].map((one) => one.textContent)")
    assert (len(labels), labels[0]) == (4, "What is rain?: No plan")
    assert labels[3] == "Another map: high floor"
    page.run("document.querySelector('#comparison').requestSubmit()")
    page.wait("document.querySelectorAll('#tabs button').length === 3")
    told = page.run("document.querySelector('#origin').textContent")
    replies = json.loads(first)["conversations"][0]["turns"][0]["replies"]
    far = replies[1]["answer"]["position"] - replies[0]["answer"]["position"]
    assert f"right minus left +{far:.2f}" in told and "different maps" in told
    texts = page.run(SAID)
    assert texts == [reply["text"] for reply in replies]
    # A comparison is saved and opened like any other conversation.
    state = state_of(page)
    page.open(f"{served.url}/?compared")
    page.wait("document.querySelectorAll('.picker').length === 2")
    give(page, "compared.json", state)
    page.wait("document.querySelectorAll('#tabs button').length === 3")
    assert state_of(page) == state
    assert page.problems == []


@needs_chromium
def test_the_recordings_replay_with_no_model(page: Page) -> None:
    listed = json.loads((RECORDINGS / "index.json").read_text())
    assert len(listed) == 3
    asked = counted(page)
    for number, one in enumerate(listed):
        if number:
            page.run("import('/page/files.js').then((f) => f.openRecording(" + json.dumps(one["file"]) + "))")
        else:
            page.wait("document.querySelectorAll('#recordings button').length === 3")
            page.click("#recordings button")
            page.wait("!document.querySelector('#halt').hidden")
            page.wait("document.querySelectorAll('.said span').length > 3")
            page.click("#halt")
            page.wait("document.querySelector('#halt').hidden")
        value = json.loads((RECORDINGS / one["file"]).read_text())
        (talk,) = value["conversations"]
        texts = [reply["text"] for turn in talk["turns"] for reply in turn["replies"]]
        page.wait(f"document.querySelectorAll('.reply > .said').length === {len(texts)}")
        shown = page.run(SAID)
        assert [text.strip() for text in shown] == [text.strip() for text in texts]
        assert one["title"] == talk["title"] and "Recorded." in page.run(
            "document.querySelector('#origin').textContent"
        )
        provenance = value["sources"][0]["provenance"]
        told = page.run("document.querySelector('#origin details').textContent")
        assert all(f"{name}: {told_of}" in told for name, told_of in provenance.items())
        assert {"model", "model revision", "map", "plans", "date", "versions"} <= set(provenance)
        assert provenance["map"] == value["sources"][0]["map"]["digest"]
        for turn in talk["turns"]:
            left, right = turn["replies"]
            assert left["plan"] is None and right["plan"] in provenance["plans"]
    assert page.run(asked) == 0
    assert page.problems == []


@needs_chromium
def test_the_tour_has_four_steps(page: Page) -> None:
    asked = counted(page)
    page.click("#tour")
    titles = []
    for step in range(4):
        page.wait(f"document.querySelector('#touring').textContent.includes('Step {step + 1} of 4')")
        titles.append(page.run("document.querySelector('#tour-title').textContent"))
        assert page.run("document.querySelectorAll('.toured').length") == 1
        assert page.run("document.activeElement.matches('#touring .main')")
        page.key("Enter", 13, "\r")
    assert len(set(titles)) == 4
    assert page.run("document.querySelector('#touring').hidden")
    # There was a conversation to look at, and no model wrote it.
    assert page.run("document.querySelectorAll('.turn').length") == 4 and page.run(asked) == 0
    page.click("#tour")
    page.key("Escape", 27)
    assert page.run("document.querySelector('#touring').hidden")


@needs_chromium
def test_a_shared_recording_is_a_page_for_any_web_server(
    browser: Page, page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page.click("#tour")
    page.wait("document.querySelectorAll('.turn').length === 4")
    (tmp_path / "page.html").write_text(shared(page), encoding="utf-8")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.problems.clear()
        browser.open(f"http://127.0.0.1:{server.server_port}/page.html", width=360, height=740, dark=True)
        browser.wait("document.querySelectorAll('.turn').length === 4")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        server.shutdown()
    asked = [line for line in capsys.readouterr().err.splitlines() if "GET" in line]
    assert len(asked) == 1 and "/page.html" in asked[0]
    assert browser.problems == []
