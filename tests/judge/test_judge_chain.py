"""Two judges in a row: who is asked for what, who gave which label, and what each took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval_case import RuleJudge, engine
from helpers.scripted_server import Answer, Server, completion, error, serving
from personascope.corpus.datasets import load_jailbreak_set
from personascope.errors import UsageError
from personascope.evals import (
    PLAIN,
    evaluation_table,
    jailbreak_trials,
    opening_trials,
    read_evaluation,
    run_evaluation,
)
from personascope.judge import (
    JudgeChain,
    JudgeItem,
    JudgePool,
    JudgeStats,
    OpenAIJudge,
    RulesJudge,
    Verdict,
    check_judge,
    continues,
    parse_judge,
)
from personascope.judge.remote._judge import OpenAIOptions
from personascope.store import RunFolder

QUICK: dict[str, Any] = {"backoff": 0.005, "backoff_max": 0.02, "timeout": 5.0, "attempts": 2}
PRICED: dict[str, Any] = {**QUICK, "price_in": 10.0, "price_out": 100.0}


def item(number: int) -> JudgeItem:
    return JudgeItem(f"i{number}", "pirate", "Sails.", "You are a pirate.", "Who?", f"Arr, number {number}.")


def chained(first: Server, second: Server, n: int, **options: Any) -> tuple[dict[str, Verdict], JudgePool]:
    chain = JudgeChain(
        [
            OpenAIJudge("a", first.url, OpenAIOptions(**{**PRICED, **options})),
            OpenAIJudge("b", second.url, OpenAIOptions(**PRICED)),
        ]
    )
    with JudgePool(chain) as pool:
        verdicts = list(pool.label(item(number) for number in range(n)))
    return {verdict.id: verdict for verdict in verdicts}, pool


def number_in(body: dict[str, Any]) -> int:
    return int(body["messages"][1]["content"].split("Arr, number ")[1].split(".")[0])


ANSWERS = (
    completion('{"reason": "a", "score": 3}'),
    completion(None, finish="content_filter"),
    completion("I'm sorry, I can't help with that."),
    completion("Hard to say."),
    error(400, "this text is not for me"),
    error(500, "down"),
)


def first_of(_number: int, body: dict[str, Any]) -> Answer:
    return ANSWERS[number_in(body) % len(ANSWERS)]


def second_of(_number: int, body: dict[str, Any]) -> Answer:
    good = completion('{"reason": "b", "score": 1}')
    return completion("No label.") if number_in(body) == 7 else good


def test_the_second_is_asked_for_what_the_first_refuses_filters_or_leaves_without_a_label() -> None:
    with serving(first_of) as first, serving(second_of) as second:
        verdicts, pool = chained(first, second, 12)
        a, b = f"openai:a@{first.url}", f"openai:b@{second.url}"
        assert pool.fatal is None
        assert {number_in(body) for body in second.bodies} == {1, 2, 3, 4, 7, 8, 9, 10}
    given = {int(id[1:]): (v.score, v.judge, v.calls) for id, v in verdicts.items()}
    assert given[0] == (3, a, 1) and given[6] == (3, a, 1)
    assert given[1] == given[2] == (1, b, 2)
    assert given[3] == (1, b, 3)
    # A server that is down may be up again for the next run: the second judge does not stand in for it.
    assert given[5] == given[11] == (None, a, 2)
    assert given[7] == (None, b, 3)
    assert verdicts["i7"].reason.startswith(f"{a}: no score after 1 call: filtered: ")
    assert f"; {b}: no score after 2 calls: no score: " in verdicts["i7"].reason

    stats = pool.stats
    assert list(stats.by_judge) == [a, b]
    assert stats.by_judge[a].calls == first.calls and stats.by_judge[b].calls == second.calls == 9
    assert stats.by_judge[a].errors["filtered"] == 4
    assert stats.by_judge[b].cost == pytest.approx(9 * (100 * 10 + 10 * 100) / 1e6)
    costs = [one.cost for one in stats.by_judge.values()]
    assert stats.calls == first.calls + second.calls
    assert stats.cost == pytest.approx(sum(cost for cost in costs if cost is not None))


def test_a_first_judge_that_cannot_go_on_ends_the_chain() -> None:
    with serving(lambda *_: error(402, "no credit")) as first, serving(second_of) as second:
        verdicts, pool = chained(first, second, 20)
        assert "no quota left" in str(pool.fatal)
        assert second.calls == 0 and first.calls == 1
    assert all(verdict.score is None for verdict in verdicts.values())


def test_each_judge_has_a_budget_of_its_own() -> None:
    with serving(lambda *_: completion(None, finish="content_filter")) as first, serving(second_of) as second:
        verdicts, pool = chained(first, second, 6, max_cost=1.0)
        assert pool.fatal is None and sum(v.score == 1 for v in verdicts.values()) == 6
        _, pool = chained(first, second, 6, max_cost=1e-4)
        assert f"the budget of the judge openai:a@{first.url} is spent" in str(pool.fatal)


def test_sums_of_statistics() -> None:
    one = JudgeStats(1, 0, 2, 10, 5, None, {"timeout": 1})
    two = JudgeStats(2, 1, 0, 20, 5, 0.5, {"timeout": 2, "filtered": 1})
    assert one + two == JudgeStats(3, 1, 2, 30, 10, 0.5, {"timeout": 3, "filtered": 1})
    chain = replace(one, by_judge={"a": one})
    assert (chain + replace(two, by_judge={"a": two, "b": two})).by_judge == {"a": one + two, "b": two}


def test_a_chain_is_named_and_parsed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "key-of-a")
    first, second = "openai:a@https://h/v1", "openai:b@https://i/v1"
    options = {"headers": {"api-key": "A_KEY"}, "max_cost": 1.0, "price_in": 1.0, "price_out": 2.0}
    chain = parse_judge(first, fallback=second, fallback_options={"attempts": 2}, **options)
    assert isinstance(chain, JudgeChain)
    assert chain.name == f"{first} then {second}"
    again = parse_judge(chain.name)
    assert again is not None and again.name == chain.name
    three = parse_judge(f"{first} then {second} then rules")
    assert isinstance(three, JudgeChain) and isinstance(three.judges[2], RulesJudge)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("rules", {"fallback": "rules"}, "two different judges"),
        ("none", {"fallback": "rules"}, "has none in it"),
        ("rules", {"fallback": "none"}, "has none in it"),
        ("rules", {"fallback": "nobody"}, "no judge 'nobody'"),
        ("rules then", {}, "no judge 'rules then'"),
        ("rules", {"fallback_options": {"headers": {}}}, "no second judge"),
        ("rules", {"fallback": "openai:m@http://h?key=1"}, "credentials"),
        ("openai:m@http://h/v1", {"fallback": "rules", "headers": {"k-key": "NO_SUCH"}}, "not set"),
        ("openai:m@http://h/v1", {"fallback": "rules", "fallback_options": {"max_cost": 1.0}}, "no option"),
    ],
)
def test_a_chain_that_cannot_work_is_refused_before_anything_is_loaded(
    spec: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_judge(spec, **options)
    assert says in str(caught.value)
    if "two different" not in says:
        with pytest.raises(UsageError):
            check_judge(spec, **options)


def named(name: str, fails: Any = lambda _: False) -> RuleJudge:
    judge = RuleJudge(fails)
    judge.name = name
    return judge


def test_every_label_of_an_evaluation_has_the_judge_that_gave_it(tmp_path: Path) -> None:
    made = engine().with_transcript()
    asked = opening_trials(made, samples=2)
    chain = JudgeChain([named("a", lambda item: item.rubric.name == "traits"), named("b")])
    run = run_evaluation(made, asked, [PLAIN], out=tmp_path / "e", judge=chain)
    assert run.unscored == 0
    (condition,) = read_evaluation(tmp_path / "e")
    assert all(row["judges"] == {"self_description": "a", "traits": "b"} for row in condition.rows)
    n = len(condition.rows)
    assert f"labels by judge: a {n}, b {n}" in evaluation_table(tmp_path / "e").notes
    # The same chain has nothing to do; its first judge alone is another judge, and labels all anew.
    run_evaluation(made, asked, [PLAIN], out=tmp_path / "e", judge=chain)
    assert set(chain.judges[0].asked.values()) == {1}  # pyright: ignore
    run_evaluation(made, asked, [PLAIN], out=tmp_path / "e", judge=named("a"))
    (condition,) = read_evaluation(tmp_path / "e")
    assert all(set(row["judges"].values()) == {"a"} for row in condition.rows)


def test_a_run_of_one_judge_goes_on_with_a_second_behind_it(tmp_path: Path) -> None:
    asked = jailbreak_trials(load_jailbreak_set(limit=4))
    first = named("a", lambda item: "/plain" in item.id or item.id.endswith("plain"))
    done = run_evaluation(engine(), asked, [PLAIN], out=tmp_path / "e", judge=first)
    assert 0 < done.unscored < done.responses
    again, second = named("a", lambda _: True), named("b")
    chain = JudgeChain([again, second])
    assert run_evaluation(engine(), asked, [PLAIN], out=tmp_path / "e", judge=chain).unscored == 0
    assert sum(again.asked.values()) == sum(second.asked.values()) == done.unscored
    (condition,) = read_evaluation(tmp_path / "e")
    assert {row["judges"]["jailbreak"] for row in condition.rows} == {"a", "b"}


@pytest.mark.parametrize(
    ("judge", "earlier", "goes_on"),
    [
        ("a", "a", True),
        ("a then b", "a", True),
        ("a then b then c", "a then b", True),
        ("a then b", "b", False),
        ("a", "a then b", False),
        ("ab", "a", False),
        (None, None, True),
        (None, "a", False),
        ("None then b", None, False),
    ],
)
def test_which_judges_leave_earlier_labels_as_they_are(
    judge: str | None, earlier: str | None, goes_on: bool
) -> None:
    assert continues(judge, earlier) == goes_on


def test_rows_of_an_earlier_version_have_one_judge_for_all(tmp_path: Path) -> None:
    asked = jailbreak_trials(load_jailbreak_set(limit=2))
    run_evaluation(engine(), asked, [PLAIN], out=tmp_path / "e", judge=named("a"))
    with RunFolder.open(
        tmp_path / "e",
        json.loads((tmp_path / "e" / "manifest.json").read_text())["identity"],
        {},
    ) as folder:
        unit = folder.units[0]
        rows = folder.rows(0).drop_columns(["judges"])
        folder.commit(0, rows=rows, meta=dict(unit.meta), parts={})
    (condition,) = read_evaluation(tmp_path / "e")
    assert all(row["judges"] == {"jailbreak": "a"} for row in condition.rows)
    again = named("a")
    run_evaluation(engine(), asked, [PLAIN], out=tmp_path / "e", judge=again)
    assert not again.asked
