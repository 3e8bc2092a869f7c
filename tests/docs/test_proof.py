"""`benchmarks/proof.py`: sections in processes of their own, whose rows are kept whatever ends them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.gpu_proof import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

import proof

SECTIONS = """
import sys, time
sys.path.insert(0, {folder!r})
import proof
name, seconds = sys.argv[2:]
assert sys.argv[1] == "--section" and float(seconds) == 1.5
proof.check("two flavours", "equal | nearly", "equal", name != "differs")
if name == "breaks":
    raise RuntimeError("out of memory")
if name == "hangs":
    time.sleep(60)
proof.cost("idle", 1.001, 1.0, 1.002, 1.005)
proof.cost("caps", 1.02, 1.015, 1.03, 1.01)
proof.cost("pooling", 1.05, 1.0, 1.1, 1.05)
proof.cost("again", 1.0, 0.9, 1.1, None)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "script.py"
    script.write_text(SECTIONS.format(folder=str(BENCHMARKS)), encoding="utf-8")
    monkeypatch.setattr(proof, "START", 3.0)
    return lambda name, left=60.0: proof.run_section(str(script), name, 1.5, left, {})[0]


def verdicts(rows: list[proof.Row]) -> list[str]:
    return [row.verdict for row in rows]


def test_a_goal_of_cost_is_met_only_by_the_whole_interval(run):
    rows = run("good")
    assert verdicts(rows) == ["passed", "met", "not met", "open", ""]
    assert rows[1].value == "1.0010 (1.0000 to 1.0020)"
    lines = proof.table(rows).splitlines()
    assert lines[2] == "| two flavours | equal \\| nearly | equal | passed |"


def test_what_differs_fails(run):
    assert verdicts(run("differs"))[0] == "failed"
    assert "failed" in proof.BAD


def test_a_section_that_breaks_keeps_its_rows_and_says_why(run, capsys):
    rows = run("breaks")
    assert verdicts(rows) == ["passed", "error"]
    assert rows[1].value == "RuntimeError: out of memory"
    assert "error" in proof.BAD
    assert "Traceback" in capsys.readouterr().err


def test_a_section_ends_when_its_time_is_up(run):
    rows = run("hangs")
    assert verdicts(rows) == ["passed", "skipped"]
    assert rows[1].value == "not done within 2 s"
    assert "skipped" not in proof.BAD


def test_a_section_that_might_pass_the_whole_time_is_not_begun(run):
    rows = run("good", left=4.0)
    assert verdicts(rows) == ["skipped"]
    assert rows[0].value == "it may take 4 s, and 4 s are left"
