"""Evaluations: every trial under every condition, once; nothing unsteered, nothing unscored in silence."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval_case import ROLES, Recording, RuleJudge, corpus, engine, tiny_run
from personascope.directions import Control, nearest_roles, on_control
from personascope.errors import EngineError, StoreError, UsageError
from personascope.evals import (
    PLAIN,
    Condition,
    Trials,
    evaluation_table,
    opening_trials,
    read_evaluation,
    run_evaluation,
    steering_conditions,
    susceptibility_trials,
)
from personascope.interventions import Ablate, Cap, Plan, Steer
from personascope.mapping import MAP
from personascope.space import PersonaMap
from personascope.store import RunFolder

NORMS = np.full(5, 3.0)


def found() -> PersonaMap:
    return PersonaMap.open(tiny_run() / MAP)


def trials(roles: int = 3, prompts: int = 2) -> Trials:
    return susceptibility_trials(corpus(), nearest_roles(found(), roles), prompts=prompts, max_new_tokens=5)


def conditions(n_random: int = 2) -> tuple[Condition, ...]:
    return steering_conditions(found(), [-0.5, 0, 0.5], NORMS, n_random=n_random, controls=["isotropic"])


def test_every_trial_is_answered_under_every_condition_and_its_plan(tmp_path: Path) -> None:
    asked, judge = trials(), RuleJudge()
    run = run_evaluation(engine(), asked, conditions(), out=tmp_path / "e", judge=judge)
    assert (run.responses, run.unscored, run.partial) == (3 * 2 * 5 * 5, 0, False)
    assert set(judge.asked.values()) == {1}
    rows = {c.name: c for c in read_evaluation(tmp_path / "e")}
    assert list(rows) == ["plain", "axis -0.5", "axis +0.5", "random 0 at 0.5", "random 1 at 0.5"]
    for condition in conditions():
        of = rows[condition.name]
        assert [row["trial"] for row in of.rows] == [trial.id for trial in asked.items]
        digest = condition.plan.digest if condition.plan else None
        assert {row["plan"] for row in of.rows} == {digest}
        for row in of.rows:
            rubric = "role_playing" if row["variant"] == "role_play" else "susceptibility"
            assert list(row["labels"]) == [rubric]
            assert (row["plan_tokens"] or 0) > 0 or digest is None
            assert row["perplexity"] is None or row["perplexity"] > 1
    assert rows["random 0 at 0.5"].control_of == ("axis -0.5", "axis +0.5")


def test_a_condition_draws_the_same_in_another_sweep(tmp_path: Path) -> None:
    asked = trials(roles=2, prompts=1)
    whole, part = conditions(), conditions()[1:3]
    run_evaluation(engine(), asked, whole, out=tmp_path / "a", judge=RuleJudge())
    run_evaluation(engine(), asked, part, out=tmp_path / "b", judge=RuleJudge())
    a = {c.name: [r["text"] for r in c.rows] for c in read_evaluation(tmp_path / "a")}
    b = {c.name: [r["text"] for r in c.rows] for c in read_evaluation(tmp_path / "b")}
    assert all(a[name] == texts for name, texts in b.items())
    assert a["plain"] != a["axis -0.5"]


def test_missing_labels_are_counted_and_only_they_are_asked_for_again(tmp_path: Path) -> None:
    asked = trials()
    out = tmp_path / "e"
    first = run_evaluation(engine(), asked, conditions(), out=out, judge=None)
    assert first.unscored == first.responses
    judge = RuleJudge(lambda item: "/visitor/" in item.id or item.id.endswith("/name"))
    second = run_evaluation(engine(), asked, conditions(), out=out, judge=judge)
    assert 0 < second.unscored < second.responses
    assert set(judge.asked.values()) == {1}
    table = evaluation_table(out)
    unscored = sum(r.unscored for r in table.results if r.measure == "assistant" or "role-plays" in r.measure)
    assert unscored == second.unscored
    recorder, last = Recording(engine()), RuleJudge()
    third = run_evaluation(recorder, asked, conditions(), out=out, judge=last)  # pyright: ignore
    assert third.unscored == 0
    assert recorder.ids == []
    assert sum(last.asked.values()) == second.unscored


def test_labels_of_another_wording_of_the_rubric_are_made_anew(tmp_path: Path) -> None:
    asked, out = trials(roles=1, prompts=1), tmp_path / "e"
    run_evaluation(engine(), asked, conditions(0), out=out, judge=RuleJudge())
    again = RuleJudge()
    run_evaluation(engine(), asked, conditions(0), out=out, judge=again)
    assert not again.asked
    other = tuple(
        replace(trial, rubrics=tuple(replace(r, task=r.task + " Be strict.") for r in trial.rubrics))
        for trial in asked.items
    )
    run_evaluation(engine(), replace(asked, items=other), conditions(0), out=out, judge=again)
    assert sum(again.asked.values()) == len(asked.items) * 3


def test_labels_of_another_judge_are_made_anew_and_never_mixed(tmp_path: Path) -> None:
    asked, out = trials(roles=1, prompts=1), tmp_path / "e"
    run_evaluation(engine(), asked, conditions(0), out=out, judge=RuleJudge())
    other = RuleJudge(lambda item: item.id.endswith("/name"))
    other.name = "another"
    run = run_evaluation(engine(), asked, conditions(0), out=out, judge=other)
    assert sum(other.asked.values()) == len(asked.items) * 3
    assert run.unscored == 3
    for condition in read_evaluation(out):
        assert {row["judge"] for row in condition.rows} == {"another"}
        assert [row["trial"] for row in condition.rows if not row["labels"]] == [asked.items[1].id]
    dead = RuleJudge(lambda _: True)
    dead.name = "dead"
    run_evaluation(engine(), asked, conditions(0), out=out, judge=dead)
    assert {row["judge"] for condition in read_evaluation(out) for row in condition.rows} == {"another"}


def test_a_response_without_its_plan_ends_the_run(tmp_path: Path) -> None:
    forgetful = Recording(engine(), lambda completion: replace(completion, plan_digest=None))
    with pytest.raises(EngineError, match=r"asked for the plan .* applied no plan"):
        run_evaluation(forgetful, trials(1, 1), conditions()[1:2], out=tmp_path / "e", judge=None)  # pyright: ignore
    assert RunFolder.read(tmp_path / "e").units == {}


def test_another_evaluation_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "e"
    run_evaluation(engine(), trials(1, 1), conditions(0), out=out, judge=None)
    for other in (
        lambda: run_evaluation(engine(), trials(2, 1), conditions(0), out=out, judge=None),
        lambda: run_evaluation(engine(), trials(1, 1), conditions(1), out=out, judge=None),
        lambda: run_evaluation(engine(), trials(1, 1), conditions(0), out=out, judge=None, seed=1),
    ):
        with pytest.raises(StoreError, match="holds another run"):
            other()


def committed(out: Path) -> set[str]:
    if not (out / "manifest.json").exists():
        return set()
    return {unit.meta["condition"] for unit in RunFolder.read(out).units.values()}


def test_twenty_kills_repeat_no_finished_condition_and_change_no_answer(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("personascope.evals._run.WAVE", 1)
    asked, wanted = trials(), conditions(3)
    run_evaluation(engine(), asked, wanted, out=tmp_path / "whole", judge=RuleJudge())
    out = tmp_path / "killed"
    made = engine()
    rng = np.random.default_rng(0)
    kills = 0
    log = tmp_path / "log"
    for _ in range(60):
        done_before = committed(out)
        child = os.fork()
        if child == 0:
            recorder = Recording(made)
            run = recorder.run

            def noting(requests, run=run):
                for completion in run(requests):
                    with log.open("a") as file:
                        file.write(completion.id.split("|")[0] + "\n")
                    yield completion

            recorder.run = noting  # pyright: ignore[reportAttributeAccessIssue]
            code = 1
            try:
                run_evaluation(recorder, asked, wanted, out=out, judge=RuleJudge())  # pyright: ignore
                code = 0
            finally:
                os._exit(code)
        log.unlink(missing_ok=True)
        if kills < 20:
            time.sleep(float(rng.uniform(0.02, 0.6)))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if log.exists():
            assert not set(log.read_text().splitlines()) & done_before
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        assert status == 0
        break
    assert kills >= 3
    a, b = read_evaluation(tmp_path / "whole"), read_evaluation(out)
    assert [c.name for c in a] == [c.name for c in b]
    for one, other in zip(a, b, strict=True):
        assert [(r["trial"], r["text"], r["labels"]) for r in one.rows] == [
            (r["trial"], r["text"], r["labels"]) for r in other.rows
        ]
    assert not list(out.rglob("*.tmp-*"))


def test_base_models_complete_openings_that_are_token_ids(tmp_path: Path) -> None:
    made = engine()
    asked = opening_trials(made, samples=3, max_new_tokens=4)
    assert len(asked.items) == 15
    judge = RuleJudge()
    run_evaluation(made, asked, conditions(1), out=tmp_path / "e", judge=judge)
    rows = read_evaluation(tmp_path / "e")[0].rows
    assert {tuple(sorted(row["labels"])) for row in rows} == {("self_description", "traits")}
    assert len({row["text"] for row in rows}) > 5
    table = evaluation_table(tmp_path / "e")
    assert table.get("axis +0.5", "trait: plain_or_none").share.n == 15


def test_strengths_are_fractions_of_the_norm_and_controls_are_as_long() -> None:
    for condition in steering_conditions(found(), [-0.5, 0, 0.5], NORMS):
        if condition.plan is None:
            continue
        (op,) = condition.plan.ops
        assert isinstance(op, Steer)
        assert op.layer == found().middle_layer
        assert abs(op.amount) == pytest.approx(1.5)
        along = float(op.direction @ found().unit_axis(op.layer))
        assert abs(along) == pytest.approx(1.0, abs=1e-5) if condition.kind == "axis" else abs(along) < 0.7


def test_nearest_roles_have_the_highest_projections() -> None:
    chosen = nearest_roles(found(), 3)
    layer = found().middle_layer
    axis = found().unit_axis(layer)
    along = {name: float(found().role_vector(name)[layer] @ axis) for name in found().roles}
    assert set(found().roles) == set(ROLES)
    assert sorted(along, key=along.get, reverse=True)[:3] == list(chosen)  # pyright: ignore
    with pytest.raises(UsageError, match="9 roles were asked for, the map has 8"):
        nearest_roles(found(), 9)


def test_a_control_has_a_floor_of_its_own_or_is_refused() -> None:
    v = np.eye(48)[0]
    plan = Plan((Cap(1, v, floor=2.0), Steer(2, v, 0.3, 5.0)))
    control = on_control(plan, Control("isotropic", 0), floors={1: -4.0})
    cap, steer = control.ops
    assert isinstance(cap, Cap)
    assert isinstance(steer, Steer)
    assert (cap.floor, steer.amount) == (-4.0, 1.5)
    assert abs(float(cap.direction @ plan.ops[0].direction)) < 0.7
    for bad in (Plan((Ablate(1, v),)), Plan((Cap(1, v, ceiling=2.0),)), Plan((Cap(0, v, floor=2.0),))):
        with pytest.raises(UsageError, match="no control here"):
            on_control(bad, Control("isotropic", 0), floors={1: 0.0})


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="share a name"):
        run_evaluation(engine(), trials(1, 1), (PLAIN, PLAIN), out=tmp_path / "e", judge=None)
    with pytest.raises(UsageError, match="give each once"):
        steering_conditions(found(), [0.1, 0.1], NORMS)
    with pytest.raises(UsageError, match="strengths are 0"):
        steering_conditions(found(), [0], NORMS)
