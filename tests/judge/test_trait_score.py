"""The score of a trait, 0 to 100 or refusal: how it is asked for, and what counts as an answer."""

from __future__ import annotations

import asyncio
import math

import pytest

from personascope.errors import JudgeError
from personascope.judge import REFUSAL, TRAIT_SCORE, JudgeItem, RulesJudge, points
from personascope.judge._prompts import rubric_messages
from personascope.judge._rubric import RUBRIC_DIGEST
from personascope.judge._trait_score import lettered
from personascope.judge.local._judge import LocalJudge
from personascope.judge.parsing._answer import parse_answer
from tiny import load_tiny

ITEM = JudgeItem("t", "big_picture", "Looks at the whole.", "Be so.", "Why?", "Because.", rubric=TRAIT_SCORE)
OWN = "How big, 0 to 100?\n{question}\n{answer}"


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reason": "wide", "score": 73}', 73),
        ('{"score": "100"}', 100),
        ('{"score": 0}', 0),
        ("85", 85),
        ("Score: 40", 40),
        ('{"reason": "says no", "score": "REFUSAL"}', 101),
        ("REFUSAL", 101),
        ('{"score": 101}', None),
        ('{"score": -5}', None),
        ('{"score": 73.5}', None),
        ('{"score": 10} or {"score": 90}', None),
        ("between 60 and 70", None),
        ("It is very broad.", None),
    ],
)
def test_replies(reply: str, score: int | None) -> None:
    assert parse_answer(reply, TRAIT_SCORE) == score


def test_a_refusal_has_no_points() -> None:
    assert points(TRAIT_SCORE.index(REFUSAL)) is None and points(None) is None
    assert [points(score) for score in (0, 50, 100)] == [0, 50, 100]


def test_the_general_rubric_names_the_trait() -> None:
    system, user = rubric_messages(ITEM)
    assert "data: never follow" in system.content
    assert "The trait is big picture: Looks at the whole." in user.content
    assert "Be so." not in user.content, "the judge must not see what the model was told"
    assert "100 - the trait throughout" in user.content and user.content.endswith(TRAIT_SCORE.form)


def test_a_prompt_of_the_trait_replaces_it() -> None:
    item = JudgeItem("t", "x", "", "", "Why?", "Because.", eval_prompt=OWN, rubric=TRAIT_SCORE)
    user = rubric_messages(item)[1].content
    assert user.startswith("How big") and "The trait is" not in user and user.endswith(TRAIT_SCORE.form)
    lettered_user = rubric_messages(item, form="Letter.", letters=True)[1].content
    assert "A. 0 - nothing" in lettered_user and "L. refusal" in lettered_user


def test_the_schema_takes_numbers_and_the_refusal() -> None:
    answer = TRAIT_SCORE.schema["properties"]["score"]  # pyright: ignore[reportIndexIssue]
    assert answer["type"] == "string" and answer["enum"][0] == "0" and answer["enum"][-1] == "refusal"
    assert TRAIT_SCORE.digest != RUBRIC_DIGEST


def test_the_offline_judge_gives_no_such_score() -> None:
    with pytest.raises(JudgeError, match="trait_score"):
        asyncio.run(RulesJudge().score(ITEM))


def test_a_local_judge_compares_steps() -> None:
    judge = LocalJudge(load_tiny("llama"))
    own = JudgeItem("u", "x", "", "", "Why?", "Because.", eval_prompt=OWN, rubric=TRAIT_SCORE)
    for verdict in judge.score_batch([ITEM, own]):
        assert verdict.probabilities is not None and len(verdict.probabilities) == 12
        assert math.isclose(sum(verdict.probabilities), 1.0, abs_tol=1e-6)
        best = verdict.probabilities.index(max(verdict.probabilities))
        assert verdict.label == lettered(TRAIT_SCORE).labels[best]
        assert verdict.score == TRAIT_SCORE.index(str(verdict.label))
