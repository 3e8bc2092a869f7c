"""``personascope chat`` with a server as its model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_case import KEY, Served, serving

from helpers.cli import personascope
from personascope.text import escape_controls

ARGS = ("--api-key", KEY, "--temperature", "0", "--max-new-tokens", "8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("chat")) as found:
        yield found


def test_replies_are_the_server_s_and_are_saved(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    given = f"What is rain?\n/plan high floor\n\n/plan 'high floor'\nAnd snow?\n/save {file}\n/quit\n"
    done = personascope("chat", f"{served.url}/v1", *ARGS, given=given)
    assert done.code == 0, done.err
    saved = json.loads(file.read_text())
    assert [one["role"] for one in saved["messages"]] == ["user", "assistant"] * 2
    first = served.chat(max_tokens=8)
    assert saved["messages"][1]["content"] == first["choices"][0]["message"]["content"]
    assert saved["positions"][0] == pytest.approx(first["personascope"]["answer"]["position"])
    second = served.chat(
        field={"plan": "high floor"},
        max_tokens=8,
        messages=[{k: v for k, v in one.items() if k != "reasoning"} for one in saved["messages"][:3]],
    )
    assert saved["messages"][3]["content"] == second["choices"][0]["message"]["content"]
    assert "caps fired on 100% of the tokens" in done.err and "plan high floor" in done.err
    assert escape_controls(first["choices"][0]["message"]["content"].strip()) in done.out


def test_plans_change_between_replies(served: Served) -> None:
    given = "/cap 99 1:3\nHello.\n/steer -2\nHello.\n/plain\nHello.\n"
    done = personascope("chat", served.url, *ARGS, "--plan", "high floor", given=given)
    assert done.code == 0, done.err
    for words in ("plan: high floor", "cap 1:3 at axis percentile 99", "steering -2", "no plan"):
        assert words in " ".join(done.err.split()), words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/plan nowhere", "no plan 'nowhere'"), ("/cap 101", "is no percentile"), ("/cap 5 9:99", "no band"),
        ("/steer much", "not a finite number"), ("/fly", "is no command"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_and_the_talk_goes_on(served: Served, line: str, words: str) -> None:
    done = personascope("chat", served.url, *ARGS, given=f"{line}\nHello.\n")
    assert done.code == 0 and words in " ".join(done.err.split()), done.err
    assert "position " in done.err


def test_a_server_without_a_map_tells_no_positions(tmp_path: Path) -> None:
    with serving(tmp_path, with_map=False, key=None) as served:
        given = "Hello.\n/cap 75\n/steer 1\n/plan 'high floor'\nHello.\n"
        done = personascope("chat", served.url, "--temperature", "0", "--max-new-tokens", "8", given=given)
        told = " ".join(done.err.split())
        assert done.code == 0 and "tells no positions" in told
        assert "makes no caps" in told and "makes no steering" in told and "caps fired on 100%" in told
        text = served.chat("Hello.", max_tokens=8)["choices"][0]["message"]["content"]
        assert escape_controls(text.strip()) in done.out


def test_a_server_that_does_not_answer_or_refuses(served: Served, tmp_path: Path) -> None:
    for url, args, words in (
        (served.url, ("--api-key", "wrong"), "401"),
        ("http://127.0.0.1:9", (), "does not answer"),
        (f"{served.url}/page", ARGS, "no server of personascope"),
        (served.url, (*ARGS, "--dtype", "float32"), "--dtype is not for a server"),
        (served.url, (*ARGS, "--anyway"), "--anyway is not for a server"),
        (tmp_path, ("--api-key", "x"), "--api-key is for a server"),
    ):
        done = personascope("chat", url, *args, given="Hello.\n")
        assert done.code != 0 and words in " ".join(done.err.split()), (url, done.err)
    done = personascope("chat", served.url, *ARGS, "--plan", "nowhere", given="Hello.\nHello.\n")
    assert done.code == 0 and done.err.count("no plan 'nowhere'") == 2
