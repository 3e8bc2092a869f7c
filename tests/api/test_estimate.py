"""What a call would take, asked of the same names with the same arguments; and how a probe is scaled."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from notebook_case import CHAT

import personascope as ps
from cli.cli_case import tree
from personascope import api
from personascope.api._estimate import (
    Prepared,
    WorkEstimate,
    estimable,
    estimated_judge,
    judging_remarks,
)
from personascope.api.notebook import Model
from personascope.chat import Message
from personascope.engines import Request, Sampling, ScoreRequest
from personascope.errors import UsageError
from personascope.judge import JAILBREAK, OpenAIJudge, RulesJudge
from personascope.runs import Meter, WorkStep, spread, with_judging


def test_the_same_arguments_say_what_a_call_takes_and_write_nothing(
    place: Path, model: Model, pmap: ps.PersonaMap, tmp_path: Path
) -> None:
    before = tree(place / "run")
    corpus = place / "corpus"
    mapped = ps.map.estimate(
        model, "quick", judge=None, corpus=corpus, out=tmp_path / "run", questions=4, default_samples=4
    )
    assert mapped.total.responses > 0 and mapped.files[0] == tmp_path / "run" / "manifest.json"
    sizes = {"windows": [(1, 3)], "axis_percentiles": [50], "n_random": 1, "roles": 2, "jailbreaks": 2}
    swept = ps.calibrate.estimate(model, pmap, **sizes, questions=2, corpus=corpus, out=tmp_path / "sweep")
    assert [step.name for step in swept.steps] == ["susceptibility", "jailbreak", "basics", "divergence"]
    cap = pmap.cap(percentile=75, layers=(1, 3))
    found = ps.evaluate.estimate(
        model, pmap, "coherence", plans=[cap], n_random=1, limit=2, out=tmp_path / "e"
    )
    # No plan, the cap, and a control of each of three kinds; norms are no plan's unit.
    assert [(step.name, step.responses) for step in found.steps] == [("coherence", 10)]
    talks = ps.simulate.estimate(
        model, pmap, domains=["coding"], conversations=2, turns=2, out=tmp_path / "t"
    )
    assert talks.total.responses == 4
    traits = ps.traits.estimate(model, pmap, ["style"], prompts=1, questions=2, profile="quick")
    assert traits.total.responses > 0 and not (place / "run" / "traits").exists()
    assert not list(tmp_path.iterdir()) and tree(place / "run") == before
    for one in (mapped, swept, found, talks, traits):
        assert "would take" in repr(one) and "minutes" in repr(one)
        assert one.to_pandas().columns[0] == "name" and "<table" in one._repr_html_()


def test_wrong_arguments_are_refused_alike(model: Model, pmap: ps.PersonaMap) -> None:
    with pytest.raises(UsageError, match="no option 'rolls'"):
        ps.evaluate.estimate(model, pmap, "susceptibility", rolls=3)


def test_what_can_be_estimated_is_a_function_with_its_own_signature() -> None:
    for function in (ps.map, ps.calibrate, ps.simulate, ps.traits, ps.evaluate, api.susceptibility, api.harm):
        assert inspect.isfunction(function) and function.__doc__
        shown = inspect.signature(function)
        assert "Prepared" not in str(shown.return_annotation) and len(shown.parameters) >= 5


def test_arguments_are_checked_once_and_the_same_is_run_or_estimated() -> None:
    calls: list[str] = []

    @estimable
    def twice(value: int) -> Prepared[int]:
        calls.append("check")
        step = WorkStep("twice", responses=value)
        return Prepared(lambda: WorkEstimate("twice", (step,), ()), lambda: 2 * value)

    assert twice(3) == 6 and twice.estimate(3).total.responses == 3
    prepared = twice.prepare(4)
    assert prepared.run() == 8 and prepared.estimate().total.responses == 4
    assert calls == ["check"] * 3


def test_a_meter_counts_what_passes_through_it(model: Model) -> None:
    meter = Meter(model.engine)
    chat = tuple(Message(one["role"], one["content"]) for one in CHAT)  # type: ignore[arg-type]
    sampling = Sampling(temperature=0.0, max_new_tokens=5, min_new_tokens=5)
    (done,) = meter.run([Request("a", chat[:1], sampling)])
    assert (meter.responses, meter.response_tokens, meter.prompt_tokens) == (1, 5, done.prompt_tokens)
    list(meter.score([ScoreRequest("b", chat[:1], done.token_ids), ScoreRequest("c", (5, 6), (7,))]))
    meter.observe(chat)
    read = meter.engine.count_tokens(chat)
    assert meter.passes == 3 and meter.seconds > 0
    assert meter.prompt_tokens == 2 * done.prompt_tokens + 5 + 3 + read
    assert meter.info == model.engine.info and meter.chat is model.engine.chat
    step = meter.step("all", scale=10)
    assert (step.responses, step.passes, step.response_tokens) == (10, 30, 50)
    assert step.seconds == pytest.approx(10 * meter.seconds)


def test_a_probe_is_spread_over_all_items_and_takes_each_once() -> None:
    assert spread(3, 16) == [0, 1, 2] and spread(1, 16) == [0] and spread(0, 16) == []
    found = spread(1000, 4)
    assert found == [125, 375, 625, 875] and len(set(spread(17, 16))) == 16


def test_judging_is_counted_by_rubric_and_priced_for_a_server() -> None:
    step = WorkStep("jailbreak", responses=7, seconds=2.0)
    assert with_judging(step, None, [(JAILBREAK, 7)], 100.0) == step
    offline = with_judging(step, RulesJudge(), [(JAILBREAK, 7)], 100.0)
    assert (offline.calls, offline.sent, offline.cost) == (7, 0, None)
    judge = api.JudgeChoice.read("openai:judge@http://127.0.0.1:9/v1", price=(2.0, 10.0)).open()
    chain = api.JudgeChoice.read("openai:judge@http://127.0.0.1:9/v1 then local:nowhere", price=(2.0, 10.0))
    # Of a chain the first judge is counted, and no model is loaded.
    assert isinstance(estimated_judge(chain), OpenAIJudge)
    assert "calls of the second judge are not counted" in judging_remarks(chain)
    assert estimated_judge(api.JudgeChoice.read("none")) is None
    paid = with_judging(step, judge, [(JAILBREAK, 7)], 100.0)
    assert paid.cost == pytest.approx((2 * paid.sent + 10 * paid.received) / 1e6) and paid.calls == 7
    whole = paid + offline
    assert (whole.calls, whole.responses, whole.seconds, whole.cost) == (14, 14, 4.0, paid.cost)
