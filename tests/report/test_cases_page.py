"""Two runs side by side: every reply with its position, whatever was written in it, and nothing hidden."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from personascope.dynamics import Dialogue, DriftRun, Turn
from personascope.errors import StoreError, UsageError
from personascope.report import Brief, write_cases_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = (
    '</p></div><script>window.hit=1</script><img src=x onerror="window.hit=1"><style>*{display:none}</style>'
)
ZERO, ONE = np.array([10.0, 100.0, 5.0]), np.array([20.0, 104.0, 6.0])
DIGEST = "ab" * 32
VOID = {"meta", "img", "br", "line", "path"}


def a_turn(turn: int, position: float, *, reply: str = "", user: str = "", **options) -> Turn:
    projections = ZERO + position * (ONE - ZERO)
    said = reply or f"Reply {turn}."
    asked = user or f"Message {turn}?"
    return Turn(turn, asked, said, 7, "stop", projections, np.zeros(7), **options)


def dialogue(id: str, positions: list[float], ended: str | None = "turns", **options) -> Dialogue:
    domain, persona, topic = id.split("/")
    plan = options.pop("plan", None)
    acted = {"plan": plan, "plan_tokens": 40, "capped_tokens": 10} if plan else {}
    turns = tuple(a_turn(turn, at, **acted) for turn, at in enumerate(positions))
    return Dialogue(id, domain, persona, topic, 0, turns, ended, **options)  # pyright: ignore


def drift(*dialogues: Dialogue, layer: int = 1, turns: int = 3, model: str = "acme/one") -> DriftRun:
    manifest = {"format": 1, "identity": {"model": {"id": model}}, "notes": {}}
    return DriftRun(Path("run"), layer, turns, dialogues, ZERO, ONE, manifest)


def two() -> tuple[DriftRun, DriftRun]:
    ids = ("cases/script/distress", "cases/script/other")
    plain = drift(*(dialogue(id, [0.9, 0.4, -0.2]) for id in ids))
    planned = drift(*(dialogue(id, [0.95, 0.8, 0.7], plan=DIGEST) for id in ids))
    return plain, planned


class Page(HTMLParser):
    """Tags with attributes, the text inside, and whether what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def of(self, tag: str, name: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and name in (a.get("class") or "").split()]


def page(tmp_path: Path, plain: DriftRun, planned: DriftRun, *args, **options) -> Page:
    out = write_cases_page(tmp_path / "cases.html", plain, planned, *args, **options)
    return Page(out.read_text(encoding="utf-8"))


def test_both_replies_stand_beside_each_other_with_their_positions(tmp_path) -> None:
    made = page(tmp_path, *two(), {"distress": Brief("Nobody else", "What to look for.")})
    assert "Nobody else" in made.text and "What to look for." in made.text
    assert len(made.of("section", "card")) == 3
    assert len(made.of("div", "turn")) == 6
    assert len(made.of("div", "reply")) == 12
    assert made.text.count("Message 1?") == 2 and made.text.count("Reply 1.") == 4
    assert "+0.90" in made.text and "+0.70" in made.text and "\u22120.20" in made.text
    assert made.text.count("capped on 25% of the 40 tokens under the plan") == 6
    assert "no plan (no plan)" in made.text and f"with the plan (plan {DIGEST[:12]})" in made.text
    assert "acme/one" in made.text
    # (0.05 + 0.4 + 0.9) / 3
    assert "Mean difference over 6 replies of 2 dialogues: +0.45" in made.text
    assert "chosen, not sampled" in made.text
    assert not made.of("p", "warning")
    assert [("open" in a) for t, a in made.tags if t == "details"] == [True, True]


def test_bars_lie_where_the_positions_are(tmp_path) -> None:
    made = page(tmp_path, *two())
    bars = [a["style"] or "" for t, a in made.tags if t == "i"]
    assert len(bars) == 12
    toward = [int(re.findall(r"--toward:(\d+)%", style)[0]) for style in bars]
    assert toward[:6] == [90, 95, 40, 80, 0, 70]
    widths = [float(re.findall(r"width:([\d.]+)%", style)[0]) for style in bars]
    assert widths[0] / widths[2] == pytest.approx(0.9 / 0.4, rel=0.01)
    assert widths[4] / widths[2] == pytest.approx(0.2 / 0.4, rel=0.01)


def test_the_chart_is_well_formed_and_has_a_mark_for_every_reply(tmp_path) -> None:
    plain, planned = two()
    gap = replace(
        plain.dialogues[0],
        turns=tuple(a_turn(turn, at) for turn, at in enumerate([0.9, math.nan, -0.2])),
    )
    write_cases_page(tmp_path / "cases.html", replace(plain, dialogues=(gap,)), planned)
    text = (tmp_path / "cases.html").read_text(encoding="utf-8")
    charts = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.S)]
    assert len(charts) == 2
    circles, squares = (charts[0].findall(tag) for tag in ("circle", "rect"))
    assert (len(circles), len(squares)) == (2, 3)
    path = next(p for p in charts[0].findall("path") if p.get("class") == "plain")
    assert (path.get("d") or "").count("M") == 2
    heights = [float(mark.get("cy") or 0) for mark in circles]
    assert heights[0] < heights[1]
    assert {title.text for title in charts[0].iter("title")} >= {"no plan, turn 1: +0.90"}
    # At turn 2 only the second run has a position: the mean rests on the others.
    assert "Mean difference over 2 replies" in text


def test_hostile_text_is_no_markup_and_nothing_is_loaded(tmp_path) -> None:
    plain, planned = two()
    bad = Dialogue(
        f"cases/{HOSTILE.replace('/', '')}/{HOSTILE.replace('/', '')}",
        HOSTILE,
        HOSTILE,
        HOSTILE,
        0,
        (a_turn(0, 0.5, reply=HOSTILE, user=HOSTILE), a_turn(1, 0.5, reply="%%STYLE%% \ud800 \u202e")),
        None,
        problem=HOSTILE,
    )
    runs = [replace(run, dialogues=(bad,), manifest={"model": HOSTILE}) for run in (plain, planned)]
    out = tmp_path / "cases.html"
    for briefs in ({}, {bad.id: Brief(HOSTILE, HOSTILE)}):
        made = page(tmp_path, runs[0], runs[1], briefs, names=(HOSTILE, HOSTILE))
        tags = [tag for tag, _ in made.tags]
        assert "script" not in tags and "img" not in tags and tags.count("style") == 1
        assert not [a for _, a in made.tags if any(name.startswith("on") for name in a)]
        assert HOSTILE in made.text and "%%STYLE%%" in made.text
    text = out.read_text(encoding="utf-8")
    assert not re.findall(r"https?://|url\(|@import", text)
    links = [a["href"] for _, a in made.tags if "href" in a]
    assert links and all(re.fullmatch(r"#dialogue-\d+", link or "") for link in links)
    assert not [a for _, a in made.tags if {"src", "srcset", "data"} & set(a)]
    (policy,) = [a["content"] for t, a in made.tags if t == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in (policy or "") and "script-src" not in (policy or "")


def test_what_is_missing_or_unfinished_is_said(tmp_path) -> None:
    plain = drift(dialogue("a/p/one", [0.5, 0.4, 0.3]), dialogue("a/p/two", [0.5]))
    short = dialogue("a/p/one", [0.6], None, problem="the auditor gave no answer")
    made = page(tmp_path, plain, drift(short, dialogue("a/p/three", [0.1])))
    warnings = " ".join(made.words)
    assert "a/p/one is unfinished in the run “with the plan”, 1 of 3 turns: the auditor gave" in warnings
    assert "a/p/two is missing from the run “with the plan”." in warnings
    assert "a/p/three is missing from the run “no plan”." in warnings
    assert len(made.of("p", "warning")) == 3
    assert made.text.count("No reply at this turn.") == 2
    assert made.text.count("This run does not have the dialogue.") == 2
    assert "Mean difference over 1 replies of 1 dialogues: +0.10." in made.text
    assert "chosen, not sampled" not in made.text


def test_other_user_turns_and_another_model_are_said(tmp_path) -> None:
    plain, _ = two()
    first = plain.dialogues[0]
    turned = (first.turns[0], a_turn(1, 0.2, user="Something else"), *first.turns[2:])
    planned = drift(replace(first, turns=turned), plain.dialogues[1], model="acme/two")
    made = page(tmp_path, plain, planned)
    assert "the user's messages differ from turn 2 on" in made.text
    assert "different models: acme/one and acme/two" in made.text
    assert "Something else" in made.text and made.text.count("Message 1?") == 2


def test_endings_alarms_and_empty_replies_are_told(tmp_path) -> None:
    plain, planned = two()
    odd = (
        replace(a_turn(0, 0.5), finish_reason="length"),
        replace(a_turn(1, 0.5), finish_reason="alarm", alarm=4),
        replace(a_turn(2, math.nan), reply=" ", token_count=0),
    )
    made = page(tmp_path, replace(plain, dialogues=(replace(plain.dialogues[0], turns=odd),)), planned)
    for words in ("cut at the limit", "ended by the monitor", "alarm at token 4", "The reply is empty."):
        assert words in made.text
    assert any(a.get("aria-label") == "position \u2013" for _, a in made.tags)


def test_a_dialogue_without_exchanges_and_nothing_to_compare(tmp_path) -> None:
    made = page(tmp_path, drift(dialogue("a/p/one", [], None)), drift(dialogue("a/p/one", [], None)))
    assert "nothing can be compared" in made.text
    assert "0 turns" in made.text
    with pytest.raises(UsageError, match="has a dialogue"):
        page(tmp_path, drift(), drift())


def test_positions_that_cannot_be_compared_are_refused(tmp_path) -> None:
    plain, planned = two()
    for other in (replace(planned, layer=2), replace(planned, mean_role_projection=ZERO + 1)):
        with pytest.raises(UsageError, match="read at layer 1"):
            page(tmp_path, plain, other)
    assert not list(tmp_path.iterdir())
    with pytest.raises(StoreError):
        write_cases_page(tmp_path / "none" / "cases.html", plain, planned)


def test_many_dialogues_are_folded_away(tmp_path) -> None:
    ids = [f"coding/p/t{number}" for number in range(13)]
    plain, planned = (drift(*(dialogue(id, [at, at]) for id in ids)) for at in (0.2, 0.6))
    made = page(tmp_path, plain, planned)
    folds = [a for t, a in made.tags if t == "details"]
    assert len(folds) == 13 and not any("open" in a for a in folds)
    assert "95%: +" not in made.text and "of 13 dialogues: +0.40 (95%:" in made.text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_chromium_draws_the_page(tmp_path) -> None:
    plain, planned = two()
    first = replace(plain.dialogues[0], turns=(a_turn(0, 0.4, reply=HOSTILE),))
    path = write_cases_page(tmp_path / "cases.html", replace(plain, dialogues=(first,)), planned)
    picture = tmp_path / "cases.png"
    assert CHROMIUM
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"),
            *("--window-size=1280,1600", path.as_uri()),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
