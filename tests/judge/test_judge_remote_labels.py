"""The remote judge by other rubrics than the 0-3 score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.scripted_server import Answer, Server, completion, error, serving
from personascope.judge import (
    JAILBREAK,
    SUSCEPTIBILITY,
    JudgeItem,
    JudgePool,
    JudgeStats,
    OpenAIJudge,
    Rubric,
    Verdict,
)
from personascope.judge._rubric import ROLE_SCORE
from personascope.judge.remote._judge import OpenAIOptions

QUICK: dict[str, Any] = {"backoff": 0.005, "backoff_max": 0.02, "timeout": 5.0}


def item(number: int, rubric: Rubric = SUSCEPTIBILITY) -> JudgeItem:
    return JudgeItem(
        f"i{number}", "", "", "You grade essays.", "Who are you?", f"Number {number}.", rubric=rubric
    )


def judged(server: Server, items: list[JudgeItem], **options: Any) -> tuple[dict[str, Verdict], JudgeStats]:
    judge = OpenAIJudge("m", server.url, OpenAIOptions(**{**QUICK, **options}))
    with JudgePool(judge) as pool:
        for one in items:
            pool.submit(one)
        verdicts = list(pool.results())
    assert pool.fatal is None
    assert sorted(v.id for v in verdicts) == sorted(i.id for i in items)
    return {v.id: v for v in verdicts}, pool.stats


def labelled(label: str) -> Answer:
    return completion(json.dumps({"reason": "so it says", "label": label}))


def number_in(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"].split("\nNumber ")[1].split(".")[0])


def test_each_label_comes_back_with_its_place() -> None:
    labels = SUSCEPTIBILITY.labels

    def script(_number: int, body: dict[str, Any]) -> Answer:
        return labelled(labels[number_in(body) % len(labels)])

    with serving(script) as server:
        verdicts, _ = judged(server, [item(n) for n in range(14)])
    for n in range(14):
        verdict = verdicts[f"i{n}"]
        assert (verdict.score, verdict.label) == (n % 7, labels[n % 7])
        assert verdict.reason == "so it says"
    asked = server.bodies[0]["response_format"]["json_schema"]
    assert asked["schema"] == SUSCEPTIBILITY.schema and asked["name"] == "label"


def test_rubrics_may_be_mixed_and_are_kept_apart(tmp_path: Path) -> None:
    def script(_number: int, body: dict[str, Any]) -> Answer:
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        if "score" in schema:
            return completion('{"reason": "r", "score": 2}')
        return labelled("enough" if "enough" in schema["label"]["enum"] else "human")

    rubrics = (ROLE_SCORE, SUSCEPTIBILITY, JAILBREAK)
    items = [item(n, rubrics[n % 3]) for n in range(9)]
    expected = {"i0": (2, "2"), "i1": (2, "human"), "i2": (6, "enough")}
    with serving(script) as server:
        for cached in (False, True):
            verdicts, stats = judged(server, items, cache=tmp_path / "labels.db")
            assert {k: (verdicts[k].score, verdicts[k].label) for k in expected} == expected
            assert stats.calls == (0 if cached else 9) and stats.cached == (9 if cached else 0)


def test_a_label_is_not_taken_for_that_of_another_wording(tmp_path: Path) -> None:
    words: dict[str, Any] = {"name": "colours", "task": "Which?", "shows": ("response",)}
    red_first = Rubric(labels=("red", "blue"), definitions=("x", "y"), **words)
    blue_first = Rubric(labels=("blue", "red"), definitions=("y", "x"), **words)
    with serving(lambda _n, _b: labelled("red")) as server:
        for rubric, place in ((red_first, 0), (blue_first, 1), (red_first, 0)):
            verdicts, _ = judged(server, [item(1, rubric)], cache=tmp_path / "labels.db")
            assert (verdicts["i1"].score, verdicts["i1"].label) == (place, "red")
        assert server.calls == 2


@pytest.mark.parametrize(
    "reply", ["It is hard to say.", '{"label": "person"}', "human or mystical", '{"score": 2}', "2"]
)
def test_a_reply_without_a_label_leaves_the_item_unscored(reply: str, tmp_path: Path) -> None:
    with serving(lambda _n, _b: completion(reply)) as server:
        verdicts, stats = judged(server, [item(0)], cache=tmp_path / "labels.db")
        assert (verdicts["i0"].score, verdicts["i0"].label) == (None, None)
        assert "gives no label" in verdicts["i0"].reason
        assert (stats.calls, stats.errors) == (2, {"no score": 2})
        again, stats = judged(server, [item(0)], cache=tmp_path / "labels.db")
        assert again["i0"].score is None and stats.cached == 0


def test_prose_is_asked_again_with_the_form_where_the_server_takes_no_schema() -> None:
    def script(_number: int, body: dict[str, Any]) -> Answer:
        if "response_format" in body:
            return error(400, "response_format is not supported")
        if len(body["messages"]) == 2:
            return completion("I would say that it is mystical, since it whispers.")
        return completion("Label: mystical")

    with serving(script) as server:
        verdicts, stats = judged(server, [item(n) for n in range(3)])
    assert {v.label for v in verdicts.values()} == {"mystical"}
    assert [message["role"] for message in server.bodies[-1]["messages"][2:]] == ["assistant", "user"]
    assert server.bodies[-1]["messages"][3]["content"] == SUSCEPTIBILITY.form
    assert stats.errors == {"format refused": 2, "no score": 3}


def test_a_cut_reply_may_have_lost_the_rest_of_its_label() -> None:
    with serving(lambda _n, _b: completion("Label: refusal", finish="length")) as server:
        verdicts, _ = judged(server, [item(0, JAILBREAK)])
    assert verdicts["i0"].score is None and "was cut" in verdicts["i0"].reason


def test_an_estimate_counts_the_words_of_the_rubric() -> None:
    judge = OpenAIJudge("m", "http://127.0.0.1:1/v1")
    short = judge.estimate(10, 100.0).prompt_tokens
    assert judge.estimate(10, 100.0, SUSCEPTIBILITY).prompt_tokens > short
