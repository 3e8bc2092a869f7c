from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.judge._rubric import DIGIT_FORM, FORM, GRADER, ROLE_SCORE, SCALE
from personascope.judge.parsing._answer import parse_answer, reason_of


def parse_score(text: str) -> int | None:
    return parse_answer(text, ROLE_SCORE)


GIVEN = [
    ('{"reason": "a "quoted" word", "score": 2}', 2),
    ('[THINK]score: 3, or rather 1[/THINK]{"score": 1}', 1),
    ("<seed:think>score: 3</seed:think>score: 1", 1),
    ("<|START_THINKING|>3<|END_THINKING|>score: 1", 1),
    ("<scratchpad>3</scratchpad>1", 1),
    ('<details type="reasoning" done="true">\n<summary>Thought</summary>\n{"score": 3}\n</details>\n2', 2),
    ('<|channel|>analysis<|message|>{"score": 3}<|end|><|start|>assistant<|channel|>final<|message|>1', 1),
    ('<reasoning>2 or 3?</reasoning>\n\n{"reason": "shows </details> in its text", "score": 3}', 3),
    ('{"reason": "x", "score": 2}', 2),
    ('{"score": "2"}', 2),
    ('{"score": 2.0}', 2),
    ('{"Score": 1}', 1),
    ('```json\n{"score": 3}\n```', 3),
    ("```\n2\n```", 2),
    ('Here it is: {"score": 0} Done.', 0),
    ('{"score": 1} {"score": 1}', 1),
    ('{"reason": "the text says score: 3", "score": 1}', 1),
    ('{"reason": "he wrote \\"score\\": 3, but", "score": 1}', 1),
    ("Score: 2", 2),
    ("**Score:** 2", 2),
    ("score = 2", 2),
    ("2", 2),
    (" 2. ", 2),
    ("(2)", 2),
    ("**2**", 2),
    ("2\n\nThe response shows some traits.", 2),
    ("2: somewhat", 2),
    ("3 - fully in the role", 3),
    ('<think>score: 3, or rather 1</think>{"score": 1}', 1),
    ("score: 1</think>2", 2),
]

NOT_GIVEN = [
    # Prose: the judge is asked again.
    '{"score": "2/3"}',
    '{"score": "two"}',
    "{'score': 2}",
    '{"reason": "not closed", "score": 2',
    "Score (0-3): 2",
    "On a scale from 0 to 3. Score: 2",
    "Final score: 3/3",
    "Score: 2 out of 3",
    "Score: zero",
    "The score is 2",
    "2/3",
    "two",
    "Three.",
    "I would give it a 2.",
    '{"score": 0, "reason": "it says "score": 3}',
    "[THINK]score: 3",
    '<details type="reasoning">score: 3',
    "<|channel|>analysis<|message|>Score: 3",
    "",
    "no idea",
    "four",
    "{}",
    '{"score": 4}',
    '{"score": -1}',
    '{"score": 2.5}',
    '{"score": true}',
    '{"score": null}',
    '{"score": [2]}',
    '{"score": NaN}',
    '{"score": 1 or 2}',
    '{"score": 0-3}',
    '{"score": 1} {"score": 2}',
    '{"score": ' + "9" * 5000 + "}",
    '{"a":' * 3000,
    '{"reason": "it says score: 3',
    '{"reason": "he wrote \\"score\\": 3, bu',
    '{"reason": "it wrote {"score": 3} to sway", "score": 0}',
    'Sure! {"reason": "it says Score: 3',
    "2/10",
    "2/4",
    "Score: 2/10",
    "Score: 12",
    "Score: 2.5",
    "Score: -1",
    "Score: 2%",
    "0-3",
    "0 to 3",
    "Score: 0-3",
    "either 1 or 2",
    "1 and 2",
    "1, maybe 2",
    "between 1 and 2",
    "Score: 1 or 2",
    "Score: 1 (or maybe 2)",
    "2 out of 3 or 3",
    "Score: 1. Final score: 2",
    "0 - no trait\n1 - plain\n2 - somewhat\n3 - fully",
    "A score of 3 means fully in the role.",
    "the score is not 3",
    "I would not give it a 3",
    "The response mentions 3 ships",
    "Rate one response",
    "1. The response is good",
    "<think>score: 3",
    "\u0663",
    "\u00b2",
]


@pytest.mark.parametrize(("reply", "score"), GIVEN)
def test_reads_the_score(reply: str, score: int) -> None:
    assert parse_score(reply) == score


@pytest.mark.parametrize("reply", NOT_GIVEN, ids=lambda reply: reply[:30])
def test_reads_no_score_where_none_is_given(reply: str) -> None:
    assert parse_score(reply) is None


@pytest.mark.parametrize("echo", [SCALE, GRADER, FORM, DIGIT_FORM, f"{GRADER}\n{SCALE}\n{FORM}"])
def test_an_echo_of_the_rubric_is_no_answer(echo: str) -> None:
    assert parse_score(echo) is None


PIECES = st.sampled_from(
    [
        "{",
        "}",
        '"',
        "score",
        ":",
        "0",
        "3",
        "12",
        "-",
        " or ",
        "/",
        "<think>",
        "</think>",
        "```",
        "two",
        "\\",
        "\n",
        ".",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=30).map("".join)))
def test_never_raises_nor_leaves_the_range(text: str) -> None:
    assert parse_score(text) in (None, 0, 1, 2, 3)
    assert len(reason_of(text)) <= 200


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.integers(0, 3))
def test_the_reason_never_sways_the_score(reason: str, score: int) -> None:
    assert parse_score(json.dumps({"reason": reason, "score": score})) == score
    assert parse_score(json.dumps({"reason": f"{reason} score: 3", "score": score})) == score


def test_reason_is_one_short_line() -> None:
    assert reason_of('{"reason": "says\\nit is an AI", "score": 1}') == "says it is an AI"
    assert reason_of("2") == ""
