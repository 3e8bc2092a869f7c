"""Simulated conversations: resumed, replayed, ended early, and with auditors that fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from talk_case import FailingAuditor, FakeTarget, auditor_server, domain, scenarios, tiny_map

from eval_case import engine as tiny_engine
from eval_case import tiny_run
from helpers.scripted_server import Answer, completion, error, serving
from personascope.directions import parse_probes
from personascope.dynamics import DriftRun, read_drift
from personascope.dynamics.conversations import (
    check_auditor,
    parse_auditor,
    replay,
    sample_scenarios,
    simulate,
)
from personascope.dynamics.conversations._auditor import (
    AuditorFailure,
    EndConversation,
    ScriptedAuditor,
    UserMessage,
    UserTurnRequest,
)
from personascope.dynamics.conversations._auditor_models import LocalAuditor, OpenAIAuditor
from personascope.dynamics.monitor import Monitor, Threshold
from personascope.engines import Sampling
from personascope.errors import DynamicsError, StoreError, UsageError
from personascope.interventions import Plan, Steer

SHORT = Sampling(temperature=0.8, max_new_tokens=8)


def play(out: Path, auditor=None, *, target=None, **options):
    found = tiny_map()
    return simulate(
        target or FakeTarget(),
        found,
        options.pop("scenarios", scenarios()),
        auditor or ScriptedAuditor(),
        out=out,
        **{"turns": 4, "sampling": SHORT, **options},
    )


def content(run: DriftRun) -> list:
    return [
        (d.id, d.ended, [(e.number, e.user, e.reply, e.tokens.tolist(), e.plan) for e in d.turns])
        for d in run.dialogues
    ]


def test_positions_are_those_of_the_map(tmp_path: Path) -> None:
    found, target = tiny_map(), FakeTarget()
    (probe,) = parse_probes(found, ["pc1"], 2)
    done = play(tmp_path / "run", target=target, probes=(probe,))
    assert not done.partial and done.turns == 32 and set(target.asked.values()) == {1}
    run = read_drift(tmp_path / "run")
    for dialogue in run.dialogues:
        assert dialogue.ended == "turns" and len(dialogue.turns) == 4
        for turn, position in zip(dialogue.turns, run.positions(dialogue), strict=True):
            at = run.layer
            raw = turn.projections[at]
            assert raw == pytest.approx(turn.tokens.mean(), rel=1e-4)
            assert position == pytest.approx(float(found.to_units(raw, at)), rel=1e-5)
            assert "pc1" in turn.probes and turn.prompt_tokens > 0


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("personascope.dynamics.conversations._driver.ROWS", 3)
    play(tmp_path / "whole")
    times = 0
    for dies_at in (5, 4, 9, None):
        target = FakeTarget(dies_at=dies_at)
        try:
            play(tmp_path / "killed", target=target)
        except KeyboardInterrupt:
            times += 1
    assert times == 3
    assert content(read_drift(tmp_path / "killed")) == content(read_drift(tmp_path / "whole"))
    with pytest.raises(StoreError, match="turns is 4 there and 5 here"):
        play(tmp_path / "whole", turns=5)


def test_a_replay_says_the_same_and_a_plan_is_on_every_reply(tmp_path: Path) -> None:
    found = tiny_map()
    play(tmp_path / "plain")
    source = read_drift(tmp_path / "plain")
    plan = Plan((Steer(1, np.ones(found.d_model), 1.0),))
    replay(FakeTarget(), found, source, out=tmp_path / "same")
    replay(FakeTarget(), found, source, out=tmp_path / "steered", plan=plan)
    same, steered = read_drift(tmp_path / "same"), read_drift(tmp_path / "steered")
    assert content(same) == content(source)
    for before, after in zip(source.dialogues, steered.dialogues, strict=True):
        assert [e.user for e in before.turns] == [e.user for e in after.turns]
        assert {e.plan for e in after.turns} == {plan.digest}
        assert (before.domain, before.topic, before.number) == (after.domain, after.topic, after.number)


def test_an_empty_reply_counts_as_a_reply_of_its_monitor(tmp_path: Path) -> None:
    class Silent(FakeTarget):
        """Says nothing at first, and then shows its tokens to the watch."""

        def run(self, requests):
            for request in requests:
                for done in super().run([request]):
                    if request.id.endswith("#0"):
                        empty = {probe.name: np.zeros(0, np.float32) for probe in request.probes}
                        yield replace(
                            done, text="", token_ids=(), pooled=None, token_count=0, projections=empty
                        )
                        continue
                    assert request.watch is not None
                    for token, value in enumerate(done.projections["axis"]):
                        request.watch(token, {"axis": float(value)})
                    yield done

    replies: list[int] = []
    found = tiny_map()
    # Any token sets it off.
    rule = Threshold("token", limit=1e9, window=1)
    monitor = Monitor.for_map(rule, found, on_alarm=lambda state: replies.append(state.reply))
    play(tmp_path / "run", target=Silent(), monitor=monitor)
    assert replies == [1] * 8
    assert {e.number for d in read_drift(tmp_path / "run").dialogues for e in d.turns if e.alarm == 0} == {1}


def test_another_direction_of_the_same_name_is_another_run(tmp_path: Path) -> None:
    (probe,) = parse_probes(tiny_map(), ["pc1"], 2)
    play(tmp_path / "run", probes=(probe,))
    other = replace(probe, probe=replace(probe.probe, direction=-probe.probe.direction))
    with pytest.raises(StoreError, match="probes"):
        play(tmp_path / "run", probes=(other,))


def test_conversations_end_where_the_user_or_the_context_does(tmp_path: Path) -> None:
    few = scenarios("coding")
    play(tmp_path / "script", scenarios=few, turns=40)
    assert {(d.ended, len(d.turns)) for d in read_drift(tmp_path / "script").dialogues} == {("auditor", 20)}
    done = play(tmp_path / "context", target=FakeTarget(context=30), scenarios=few)
    run = read_drift(tmp_path / "context")
    assert not done.partial
    assert {d.ended for d in run.dialogues} == {"context"}
    # 25 words of prompt and 8 tokens of reply do not fit in 30 at the fourth turn.
    assert {len(d.turns) for d in run.dialogues} == {3}


def test_a_message_that_is_not_had_is_reported_and_asked_for_again(tmp_path: Path) -> None:
    stubborn = scenarios()[2].id
    broken = FailingAuditor(
        lambda id, turn, times: (id == stubborn and turn == 2) or (turn == 1 and times < 2)
    )
    done = play(tmp_path / "run", broken)
    assert done.partial and done.finished == 7
    assert done.problems == {stubborn: "told to fail"}
    (left,) = (d for d in read_drift(tmp_path / "run").dialogues if d.ended is None)
    assert (left.id, left.problem, len(left.turns)) == (stubborn, "told to fail", 2)
    again = play(tmp_path / "run", FailingAuditor(lambda *_: False))
    assert not again.partial and not again.problems
    play(tmp_path / "whole")
    assert content(read_drift(tmp_path / "run")) == content(read_drift(tmp_path / "whole"))


def test_two_hundred_conversations_with_a_server_that_fails_a_fifth_of_the_time(tmp_path: Path) -> None:
    many = sample_scenarios([domain(name, topics=10, personas=5) for name in ("a", "b", "c", "d")], 50)
    with auditor_server(failing=0.2) as (address, counts):
        # One attempt for a message, so that failures reach the run; they are repeated otherwise.
        auditor = OpenAIAuditor("m", address, attempts=1, min_turns=2)
        calls = 0
        while (done := play(tmp_path / "run", auditor, scenarios=many, turns=3)).partial and calls < 20:
            calls += 1
            assert len(done.problems) == done.dialogues - done.finished
            assert all(done.problems.values())
    assert not done.partial and done.turns == 600
    assert min(counts[how] for how in ("500", "garbage", "empty", "closed")) > 10
    run = read_drift(tmp_path / "run")
    assert all([e.number for e in d.turns] == [0, 1, 2] for d in run.dialogues)
    assert all(e.user.startswith("And then?") for d in run.dialogues for e in d.turns)


def test_a_server_that_does_not_know_the_model_stops_the_run(tmp_path: Path) -> None:
    with auditor_server(failing=0.0) as (address, counts):
        with pytest.raises(DynamicsError, match="cannot be used"):
            play(tmp_path / "run", OpenAIAuditor("other", address, attempts=1), turns=1)
        assert counts["404"] > 0
    with pytest.raises(UsageError, match="no HTTP address"):
        OpenAIAuditor("m", "localhost:80")


ASKED = UserTurnRequest(scenarios()[0], 3, (), 0)


@pytest.mark.parametrize(
    ("served", "found"),
    [
        (completion("<think>What would she say?</think>\nAnd then?"), UserMessage("And then?")),
        (completion("[THINK]Enough.[/THINK] [END]"), EndConversation()),
        (
            completion(None, reasoning_content="And then?"),
            AuditorFailure("the auditor wrote an empty message"),
        ),
        (completion("", finish="content_filter"), AuditorFailure("filtered: finish_reason content_filter")),
        (
            error(400, "got Bearer sk-of-this-test"),
            AuditorFailure("rejected: HTTP 400: got Bearer [hidden]"),
        ),
        (completion("half \ud800 a sign"), UserMessage("half \ufffd a sign")),
    ],
)
def test_an_auditor_reads_servers_as_judges_do(served, found, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-test")
    with serving(lambda *_: served) as server:
        auditor = OpenAIAuditor("m", f"{server.url}?api-version=1", attempts=3)
        assert auditor.answer([ASKED, ASKED]) == [found, found]
        assert server.paths == ["/v1/chat/completions?api-version=1"] * 2
        assert server.bodies[0]["seed"] == 0 and server.bodies[0]["temperature"] == 1.0
        assert "response_format" not in server.bodies[0]


def test_an_auditor_whose_server_shows_a_login_page_stops_at_the_first_call() -> None:
    with serving(lambda *_: Answer("<html>Sign in</html>")) as server:
        with pytest.raises(DynamicsError, match=r"auditor openai:m@.* is no chat-completions server"):
            OpenAIAuditor("m", server.url).answer([ASKED] * 20)
        assert server.calls == 1


def test_a_server_that_never_answers_is_waited_for_once_and_not_by_every_conversation() -> None:
    with serving(lambda *_: Answer("{}", delay=0.5)) as server:
        auditor = OpenAIAuditor("m", server.url, timeout=0.1, attempts=1)
        answers = auditor.answer([ASKED] * 50)
        assert answers == [AuditorFailure("timeout: no answer within 0.1 s")] * 50
        assert server.calls == 1


def test_an_auditor_learns_what_its_server_takes() -> None:
    def script(_number, body):
        if "max_tokens" in body:
            return error(400, "'max_tokens' is not supported, use 'max_completion_tokens'")
        return error(400, "temperature is fixed") if "temperature" in body else completion("And then?")

    with serving(script) as server:
        assert OpenAIAuditor("m", server.url).answer([ASKED] * 5) == [UserMessage("And then?")] * 5
        assert server.calls == 7


def test_a_server_that_is_gone_leaves_every_conversation(tmp_path: Path) -> None:
    with auditor_server(failing=0.0) as (address, _):
        pass
    done = play(tmp_path / "run", OpenAIAuditor("m", address, attempts=1), turns=1)
    assert done.partial and done.finished == 0 and len(done.problems) == 8
    assert all(problem.startswith("connection: ") for problem in done.problems.values())


def test_a_local_model_plays_both_sides(tmp_path: Path) -> None:
    engine, found = tiny_engine(), tiny_map()
    auditor = LocalAuditor(engine, sampling=SHORT)
    for name in ("one", "two"):
        simulate(
            engine, found, scenarios()[:3], auditor, out=tmp_path / name, turns=2, sampling=SHORT, seed=5
        )
    one, two = read_drift(tmp_path / "one"), read_drift(tmp_path / "two")
    assert content(one) == content(two)
    assert all(turn.user for dialogue in one.dialogues for turn in dialogue.turns)


def test_auditors_by_name() -> None:
    target = FakeTarget()
    assert parse_auditor("scripted", target=target).name == "scripted"
    assert parse_auditor("self", target=target).name == f"local:{target.info.model_id}"
    named = parse_auditor("openai:gpt@http://h/v1/", target=target)
    assert named.name == "openai:gpt@http://h/v1"
    at = "openai:org/gpt@v2@http://h/v1?api-version=1"
    assert parse_auditor(at, target=target).name == at
    for kept in ("openai:gpt@http://h/v1?key=abc", "openai:gpt@http://me:abc@h/v1"):
        with pytest.raises(UsageError, match="credentials"):
            check_auditor(kept)
    with pytest.raises(UsageError, match="takes headers"):
        check_auditor("scripted", {"api-key": "K"})
    for bad in ("openai:gpt", "scripted:x", "nobody", "local:"):
        with pytest.raises(UsageError, match="no auditor"):
            parse_auditor(bad, target=target)


def test_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another kind of run"):
        read_drift(tiny_run())
    with pytest.raises(DynamicsError, match="0 conversations"):
        play(tmp_path / "none", scenarios=())
