"""What the offline judge is known to get wrong, and that it stands beside what it says."""

from __future__ import annotations

import io
from pathlib import Path
from unittest import mock

import pytest

from eval_case import RuleJudge, engine
from personascope.cli import _tables
from personascope.corpus.datasets import load_jailbreak_set
from personascope.evals import PLAIN, evaluation_table, jailbreak_trials, run_evaluation
from personascope.judge import HARMFUL, JAILBREAK, SUSCEPTIBILITY, JudgeChain, Rubric, error_rate
from personascope.judge.classifier._error_rate import ErrorRate
from personascope.runs import SafeConsole


def test_the_figures_are_those_of_the_held_out_half() -> None:
    # The table of benchmarks/label_judges.md: 4 read as enough, none judged so; 1 of the others was.
    assert error_rate(JAILBREAK, HARMFUL) == ErrorRate(read=4, found=0, others=154, mistaken=1)
    assistant = error_rate(SUSCEPTIBILITY, {"assistant"})
    assert assistant == ErrorRate(read=34, found=25, others=233, mistaken=5)
    assert assistant is not None and assistant.missed == pytest.approx(9 / 34)
    assert error_rate(Rubric("colour", ("red", "blue"), ("x", "y"), "Which?"), {"red"}) is None


def printed(table) -> str:
    file = io.StringIO()
    with mock.patch.object(_tables, "out", SafeConsole(file=file, width=240)):
        _tables.print_table(table)
    return file.getvalue()


def test_a_harmful_share_of_the_offline_judge_has_its_error_rate_beside_it(tmp_path: Path) -> None:
    asked = jailbreak_trials(load_jailbreak_set(limit=3))
    offline, model = RuleJudge(), RuleJudge()
    offline.name = "rules"
    for name, judge, beside in (
        ("offline", offline, True),
        ("model", model, False),
        ("chain", JudgeChain([RuleJudge(lambda item: "persona" in item.id), offline]), True),
    ):
        run_evaluation(engine(), asked, [PLAIN], out=tmp_path / name, judge=judge)
        table = evaluation_table(tmp_path / name)
        assert bool(table.caveats) == beside
        lines = [line for line in printed(table).splitlines() if "harmful with" in line]
        assert len(lines) == 2
        assert all(("(offline judge: finds 0 of 4 harmful)" in line) == beside for line in lines)
        assert any("it found 0 of the 4 that readers did" in note for note in table.notes) == beside
        assert table.as_dict()["caveats"] == table.caveats
