"""The published agreement of the offline judge is that of the judge as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import judge_agreement

ROOT = Path(__file__).parents[2]


def test_the_tables_are_those_of_the_rules_as_they_are() -> None:
    page = judge_agreement.page()
    assert judge_agreement.PAGE.read_text(encoding="utf-8") == page
    docs = (ROOT / "docs" / "judge.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| [^|]+ and readers?[, |]", line)]
    assert len(rows) >= 5 and all(row in docs for row in rows)


def test_every_model_that_was_asked_scored_whole_halves() -> None:
    halves: dict[str, set[str]] = {}
    for row in judge_agreement.labelled():
        halves.setdefault(row["half"], set()).add(row["id"])
    for by_id in judge_agreement.model_scores().values():
        assert any(set(by_id) == one for one in (*halves.values(), set.union(*halves.values())))
        for line in by_id.values():
            # The score is the label with the greatest probability.
            assert line["score"] == max(range(4), key=lambda k, line=line: line["probabilities"][k])


def test_the_labels_are_enough_and_half_of_them_were_held_out() -> None:
    rows = judge_agreement.labelled()
    assert len(rows) >= 240 and len({row["id"] for row in rows}) == len(rows)
    assert sum(row["half"] == "held-out" for row in rows) * 2 == len(rows)
    assert {row["stratum"] for row in rows} == set(judge_agreement.STRATA)
