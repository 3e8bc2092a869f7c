"""No text that somebody else wrote acts on the terminal."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import pytest
from cli_case import save_model, write_corpus
from rich.logging import RichHandler
from rich.table import Table

from helpers.cli import personascope
from helpers.scripted_server import completion, serving
from personascope.errors import UsageError
from personascope.runs import Progress, SafeConsole
from personascope.runs._bar import ProgressBar
from personascope.text import escape_controls, escape_controls_in_json

CLEAR, TITLE, CSI, BIDI = "\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\u202egpj.exe"
NASTY = f"{CLEAR}a{TITLE}b{CSI}c{BIDI}\rd\x08\x7f"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def console(**options) -> tuple[SafeConsole, io.StringIO]:
    file = io.StringIO()
    return SafeConsole(file=file, width=200, **options), file


def test_control_characters_are_written_out_and_all_else_stays() -> None:
    assert escape_controls("\x1b[31m") == "\\x1b[31m"
    assert escape_controls("\x9b\u202e\ud800\x00") == "\\x9b\\u202e\\ud800\\x00"
    plain = "line\n\tÄ 日本語 🙂 e\u0301 [bold] \\x1b"
    assert escape_controls(plain) == plain
    assert escape_controls("a\r\nb\rc") == "a\nb\\x0dc"
    value = {"a": [NASTY, "\ud83d", plain]}
    text = escape_controls_in_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value and not RAW.search(text)


@pytest.mark.parametrize("markup", [True, False])
def test_every_way_to_print_is_safe(markup: bool) -> None:
    out, file = console(markup=markup)
    out.print(NASTY)
    out.print(f"name: {NASTY}", style="dim", soft_wrap=True)
    table = Table("name", NASTY, title=NASTY)
    table.add_row(NASTY, "[bold]kept[/]")
    out.print(table)
    log = logging.Logger("escape")
    log.addHandler(RichHandler(console=out, show_path=False))
    log.warning("server said %s", NASTY)
    out.rule(NASTY)
    shown = file.getvalue()
    assert not RAW.search(shown)
    assert shown.count("\\x1b[2J") >= 7
    # Widths are of what is shown: the borders of the table stand in one column.
    rows = [line for line in shown.splitlines() if line.startswith(("┃", "│"))]
    assert len({len(row) for row in rows}) == 1


def test_our_own_styles_still_reach_a_terminal() -> None:
    out, file = console(force_terminal=True, color_system="standard")
    out.print(f"[bold red]error:[/] {NASTY}", highlight=False)
    shown = file.getvalue()
    assert shown.startswith("\x1b[1;31merror:\x1b[0m \\x1b[2J")
    assert len(RAW.findall(shown)) == 2


def test_a_text_that_is_no_markup_is_printed_as_it_stands() -> None:
    out, file = console()
    out.print("role [/] of folder [/bold] :skull:")
    assert file.getvalue() == "role [/] of folder [/bold] :skull:\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_names_and_does_not_obey_them(terminal: bool) -> None:
    out, file = console(force_terminal=terminal, color_system=None)
    with ProgressBar(out, every=0.0) as bar:
        for done in range(3):
            bar(Progress("generate", done, 3, note=f"{TITLE}[/]x"))
    assert "owned\x07" not in file.getvalue() and "]0;owned\\x07[/]x" in file.getvalue()


def test_folder_names_and_texts_of_files_reach_the_terminal_escaped(tmp_path: Path) -> None:
    folder = tmp_path / f"run{CLEAR}"
    folder.mkdir()
    told = personascope("show", folder)
    assert told.code != 0 and "run\\x1b[2J" in told.err and not RAW.search(told.err + told.out)
    write_corpus(tmp_path / "corpus")
    name = next((tmp_path / "corpus").rglob("*.yaml"))
    name.write_text(name.read_text().replace("description:", f"des\x85cription{CSI}:", 1))
    told = personascope("corpus", "check", tmp_path / "corpus")
    assert not RAW.search(told.err + told.out)


def test_what_a_judge_says_reaches_the_terminal_escaped(tmp_path: Path, monkeypatch) -> None:
    save_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    monkeypatch.setenv("PERSONASCOPE_CACHE", str(tmp_path / "cache"))
    page = json.loads(completion("x").body)
    del page["choices"]
    page["message"] = f"sign in {NASTY}"
    with serving(lambda *_: completion("x").__class__(json.dumps(page))) as server:
        told = personascope(
            "map", tmp_path / "model", "--corpus", tmp_path / "corpus", "--profile", "quick",
            "--default-samples", "4", "--judge", f"openai:m@{server.url}", "--out", tmp_path / "run",
        )  # fmt: skip
    assert told.code == 3, told.err
    assert "sign in \\x1b[2Ja" in told.err and not RAW.search(told.err + told.out)


def test_errors_are_printed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    from personascope.cli._console import print_error

    print_error(UsageError(f"no role {NASTY}", hint=f"give {NASTY}"))
    told = capsys.readouterr().err
    assert told.count("\\x1b[2J") == 2 and not RAW.search(told)
