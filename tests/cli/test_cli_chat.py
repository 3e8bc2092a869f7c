"""A conversation in the terminal: replies as the engine gives them, plans between them, and what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_case import save_model, write_corpus

from helpers.cli import personascope
from personascope import api
from personascope.chat import Message
from personascope.engines import Request, Sampling

ARGS = ("--dtype", "float32", "--max-new-tokens", "6", "--temperature", "0", "--anyway")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    done = personascope(
        "map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none",
        "--questions", "4", "--default-samples", "4", "--dtype", "float32", "--out", folder / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder / "run"


def test_replies_are_the_engines_and_are_saved(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    done = personascope("chat", run, *ARGS, given=f"Hello there.\nAnd you?\n/save {file}\n/quit\n")
    assert done.code == 0, done.err
    saved = json.loads(file.read_text())
    assert [one["role"] for one in saved["messages"]] == ["user", "assistant"] * 2
    mapped = api.MappedModel.open(run, dtype="float32", engine="transformers")
    asked = Request("chat#0", (Message("user", "Hello there."),), Sampling(temperature=0, max_new_tokens=6))
    (expected,) = mapped.engine.run([asked])
    assert saved["messages"][1]["content"] == expected.text
    assert expected.text.strip() in done.out and done.err.count("position ") == 2
    assert len(saved["positions"]) == 2
    assert f"personascope project {run} {file}" in done.err
    read = personascope("project", run, file, "--dtype", "float32", "--format", "json")
    assert read.code == 0, read.err


def test_plans_change_between_replies(run: Path) -> None:
    given = "/cap 99 1:4\nHello.\n/steer -2\nHello.\n/plain\nHello.\n"
    done = personascope("chat", run, *ARGS, given=given)
    assert done.code == 0, done.err
    assert "caps fired on" in done.err and "no plan" in done.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/fly", "is no command"), ("/steer", "is no command"), ("/steer much", "not a finite number"),
        ("/steer nan", "not a finite number"), ("/cap 101", "is no percentile"), ("/cap 5 9:99", "no band"),
        ("/save 'x", "quotation"), ("/save /nowhere/at/all.json", "nowhere"), ("/help", "/plain"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_and_the_talk_goes_on(run: Path, line: str, words: str) -> None:
    done = personascope("chat", run, *ARGS, given=f"{line}\n/quit\n")
    assert done.code == 0 and words in done.err, done.err
