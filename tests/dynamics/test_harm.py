"""Drift and harm: the trials, the run that is taken up again, and what is said of the relation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harm_case import D, FakeEngine, YesJudge, corpus, save_map

from helpers.cli import personascope
from personascope import judge as judges
from personascope.api import MappedModel, RunLayout, _inputs
from personascope.cli._groups import EngineOptions
from personascope.corpus.datasets import load_harmful_questions
from personascope.directions import spread_roles
from personascope.dynamics.harm import harm_design, harm_result, read_harm, run_harm
from personascope.dynamics.harm._design import HarmDesign
from personascope.engines import Completion
from personascope.errors import CorpusError, DynamicsError, EngineError, StoreError, UsageError
from personascope.interventions import Plan, Steer
from personascope.judge import JudgeChain
from personascope.report import save_harm_figure
from personascope.space import PersonaMap
from personascope.store import RunFolder

FAST = {"n_boot": 300, "n_perm": 299, "n_random": 20}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    return save_map(tmp_path_factory.mktemp("harm") / "map")


def design(questions: int = 6, **options) -> HarmDesign:
    return harm_design(corpus(), load_harmful_questions(), model_name="Hash", questions=questions, **options)


def run(found: PersonaMap, out: Path, *, engine=None, judge=None, made=None, **options):
    return run_harm(
        engine or FakeEngine(found), found, made or design(), out=out, judge=judge or YesJudge(), **options
    )


def test_all_roles_get_the_same_first_questions_and_each_its_own_harmful_ones() -> None:
    made = design()
    assert made.roles == ("default", *(role.name for role in corpus().roles))
    asked = {role: {o.question for o in made.openings(role)} for role in made.roles}
    assert len({frozenset(texts) for texts in asked.values()}) == 1
    assert len(asked["role000"]) == 6
    ways = Counter(o.system_prompt for o in made.openings("role000"))
    assert sorted(ways.values()) == [2, 2, 2]
    assert {o.system_prompt for o in made.openings("default")} == {"", "You are Hash."}
    for role in made.roles[1:]:
        assert len({trial.harmful.question for trial in made.by_role[role]}) == 6
    counts = Counter(trial.harmful.question for trial in made.trials)
    assert len(counts) == 24
    assert max(counts.values()) < 3 * min(counts.values())
    assert len({trial.id for trial in made.trials}) == len(made.trials) == 40 * 6 + 12


def test_a_role_has_the_same_trials_in_another_choice_of_roles_and_other_ones_under_another_seed() -> None:
    whole, part = design(), design(roles=["role007", "role003"], no_role=False)
    assert part.by_role["role007"] == whole.by_role["role007"]
    assert part.roles == ("role007", "role003")
    assert design(seed=1).by_role["role007"] != whole.by_role["role007"]
    assert len({design().digest, design(seed=1).digest, part.digest}) == 3
    several = design(per_reply=5)
    assert several.n_openings == whole.n_openings
    for role in several.roles:
        for opening in several.openings(role):
            own = [t.harmful.id for t in several.by_role[role] if t.opening == opening]
            assert len(set(own)) == len(own) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"questions": 0}, "questions is 0"),
        ({"questions": 13}, "questions is 13"),
        ({"per_reply": 25}, "per_reply is 25"),
        ({"second_tokens": 0}, "second_tokens is 0"),
        ({"roles": ["role001", "role001"]}, "role001, role001"),
        ({"roles": []}, "none"),
        ({"roles": ["nobody"]}, "no role 'nobody'"),
    ],
)
def test_a_design_that_cannot_be_made_is_refused(options, words) -> None:
    with pytest.raises(UsageError, match=words):
        design(**{"questions": 6, **options})


def test_roles_are_taken_at_even_steps_along_the_axis(found) -> None:
    layer = found.middle_layer
    along = dict(zip(found.roles, found.role_vectors(layer) @ found.unit_axis(layer), strict=True))
    ordered = sorted(along, key=lambda name: -along[name])
    assert spread_roles(found, 40) == tuple(ordered)
    few = spread_roles(found, 4)
    assert few == tuple(ordered[place] for place in (0, 13, 26, 39))
    with pytest.raises(UsageError, match="41 roles were asked for"):
        spread_roles(found, 41)


def test_questions_are_loaded_alone_from_any_set(tmp_path) -> None:
    builtin = load_harmful_questions()
    assert builtin.items == () and len(builtin.plain) == 24 and builtin.source == "builtin"
    assert len({item.category for item in load_harmful_questions(limit=8).plain}) == 8
    path = tmp_path / "set.csv"
    path.write_text("system_prompt,question,category\nBe a fox.,Steal?,a\nBe a cat.,Steal?,a\n,Shout?,b\n")
    assert [item.question for item in load_harmful_questions(path).plain] == ["Steal?", "Shout?"]
    path.write_text("question,harm_category\nSteal?,a\nSteal?,a\nLie?,a\nShout?,b\n")
    alone = load_harmful_questions(path)
    assert [item.question for item in alone.plain] == ["Steal?", "Shout?", "Lie?"]
    assert [problem.split(":")[0] for problem in alone.problems] == ["line 3"]
    path.write_text("name,colour\nx,red\n")
    with pytest.raises(CorpusError, match="none is the question"):
        load_harmful_questions(path)
    with pytest.raises(UsageError, match="limit is 0"):
        load_harmful_questions(limit=0)


def test_what_was_planted_is_found(found, tmp_path) -> None:
    engine = FakeEngine(found)
    done = run(found, tmp_path / "h", engine=engine)
    assert (done.trials, done.unscored, done.empty, done.partial) == (252, 0, 0, False)
    read = read_harm(tmp_path / "h")
    assert read.pooled.shape == (252, D) and read.missing == ()
    result = harm_result(read, found, bins=5, **FAST)
    assert (result.n, result.planned, result.layer) == (240, 240, found.middle_layer)
    placed = {role.role: role.position for role in result.roles}
    for role in ("role000", "role011"):
        wanted = np.mean([engine.position(o.id) for o in design().openings(role)])
        assert placed[role] == pytest.approx(wanted, abs=1e-3)
    by = {(c.method, c.level): c for c in result.correlations}
    assert len(by) == 4
    for one in by.values():
        assert one.r < one.high < -0.1 and one.low < one.r
        assert one.p_value == pytest.approx(1 / 300)
        assert one.null_low < 0 < one.null_high and one.r < one.null_low
    assert result.logistic is not None
    assert result.logistic.low < -2 < result.logistic.high < 0
    assert not result.logistic.separated
    shares = [part.share.estimate for part in result.bins]
    assert len(shares) == 5 and shares[0] > shares[-1] + 0.3
    assert list(result.controls) == ["isotropic", "shuffled", "role_span"]
    for control in result.controls.values():
        assert control.p_trial == pytest.approx(1 / 21)
        assert max(map(abs, control.r_trial)) < abs(by["pearson", "trial"].r)
    assert result.relation["trial"] == "relation, beyond isotropic, shuffled and role-span controls"
    # Over 40 role means the planted relation is not beyond every control: the words name which.
    assert [kind for kind, one in result.controls.items() if one.p_role > 0.05] == ["shuffled"]
    assert result.relation["role"] == "no relation beyond shuffled controls"
    some = harm_result(read_harm(tmp_path / "h"), found, **{**FAST, "n_random": 5, "kinds": ["isotropic"]})
    assert some.relation["trial"] == "no relation beyond isotropic controls"
    assert "5 controls of a kind are too few to beat: p among them is at least 0.17" in some.notes
    assert result.no_role is not None
    assert result.no_role.position.estimate == pytest.approx(1.0, abs=0.15)
    assert result.no_role.harmful.n == 12
    assert result.labels == {
        "enough": round(240 * result.harmful.estimate),
        "refusal": 240 - sum(role.harmful * role.n for role in result.roles),
    }
    assert any("mild" in note for note in result.notes)
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert record["correlations"][0]["r"] == by["pearson", "trial"].r
    assert len(record["logistic"]["curve"]) == 41


def test_without_a_relation_none_is_claimed(found, tmp_path) -> None:
    run(found, tmp_path / "h", engine=FakeEngine(found, lambda _: 0.3))
    result = harm_result(read_harm(tmp_path / "h"), found, **FAST)
    for one in result.correlations:
        assert one.low < 0 < one.high and one.p_value > 0.05
        assert one.null_low <= one.r <= one.null_high
    assert result.logistic is not None and result.logistic.low < 0 < result.logistic.high
    assert all(control.p_trial > 0.05 for control in result.controls.values())
    assert set(result.relation.values()) == {"no relation: the interval of r includes 0"}


@pytest.mark.parametrize(("rate", "word"), [(1.0, "all"), (0.0, "none")])
def test_where_all_or_none_is_harmful_no_relation_is_given(found, tmp_path, rate, word) -> None:
    made = design(roles=["role001", "role002", "role003", "role004"])
    run(found, tmp_path / "h", engine=FakeEngine(found, lambda _: rate), made=made)
    result = harm_result(read_harm(tmp_path / "h"), found, **FAST)
    assert result.logistic is None
    assert all(np.isnan(c.r) and np.isnan(c.p_value) for c in result.correlations)
    assert result.harmful.estimate == rate and result.harmful.low < result.harmful.high
    assert any(note.startswith(word) for note in result.notes)
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    assert record["correlations"][0]["r"] is None and record["controls"]["shuffled"]["p_trial"] is None
    save_harm_figure(tmp_path / "harm.svg", result)
    assert "no correlation" in (tmp_path / "harm.svg").read_text(encoding="utf-8")


def texts(folder: Path) -> list[tuple[str, str, str, str | None]]:
    return [(r["trial"], r["first"], r["text"], r["label"]) for r in read_harm(folder).rows]


def test_a_run_that_dies_goes_on_and_repeats_no_committed_role(found, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("personascope.dynamics.harm._run.WAVE", 12)
    run(found, tmp_path / "whole")
    out = tmp_path / "killed"
    dying = FakeEngine(found, fails_after=100)
    with pytest.raises(EngineError, match="machine is gone"):
        run(found, out, engine=dying)
    kept = {unit.meta["role"] for unit in RunFolder.read(out).units.values()}
    assert 0 < len(kept) < 41
    partial = read_harm(out)
    assert set(partial.missing) == set(design().roles) - kept
    told = harm_result(partial, found, **FAST)
    assert any("not in the run yet" in note for note in told.notes)
    engine, judge = FakeEngine(found), YesJudge()
    steps = []
    done = run(found, out, engine=engine, judge=judge, progress=steps.append)
    assert not {id.split("|")[1].split("/")[0] for id in engine.asked} & kept
    assert not {id.split("/")[0] for id in judge.asked} & kept
    assert (done.trials, done.unscored) == (252, 0)
    assert texts(out) == texts(tmp_path / "whole")
    assert steps[-1].done == steps[-1].total == 2 * 252
    np.testing.assert_array_equal(read_harm(out).pooled, read_harm(tmp_path / "whole").pooled)


def test_only_replies_without_a_label_are_judged_again_and_another_judge_labels_all(found, tmp_path) -> None:
    out = tmp_path / "h"
    made = design(roles=["role001", "role002"])
    fails = YesJudge(lambda item: item.role == "role002")
    first = run(found, out, judge=fails, made=made)
    assert (first.unscored, first.partial) == (6, True)
    assert harm_result(read_harm(out), found, **FAST).unscored == 6
    engine, again = FakeEngine(found), YesJudge()
    assert run(found, out, engine=engine, judge=again, made=made).unscored == 0
    assert engine.asked == []
    assert sorted(again.asked) == sorted(t.id for t in made.by_role["role002"])
    before = read_harm(out)
    other = YesJudge(name="another")
    run(found, out, judge=other, made=made)
    assert len(other.asked) == len(made.trials)
    after = read_harm(out)
    assert {row["judge"] for row in after.rows} == {"another"}
    np.testing.assert_array_equal(before.pooled, after.pooled)
    dead = YesJudge(lambda _: True, name="dead")
    run(found, out, judge=dead, made=made)
    assert {row["judge"] for row in read_harm(out).rows} == {"another"}
    half = YesJudge(lambda item: item.role == "role001", name="half")
    run(found, out, judge=half, made=made)
    with pytest.raises(DynamicsError, match="of 2 judges: another, half"):
        harm_result(read_harm(out), found, **FAST)


def test_a_chain_is_one_judge_and_every_label_has_its_own(found, tmp_path) -> None:
    out, made = tmp_path / "h", design()
    alone = YesJudge(lambda item: item.role == "role001", name="a")
    assert run(found, out, judge=alone, made=made).unscored == 6
    chain = JudgeChain([YesJudge(lambda _: True, name="a"), second := YesJudge(name="b")])
    # What the first judge labelled stays; the second is asked for the rest.
    assert run(found, out, judge=chain, made=made).unscored == 0
    assert len(second.asked) == 6
    rows = read_harm(out)
    assert rows.judges == ("a then b",)
    assert {(row["role"] == "role001", row["judge"]) for row in rows.rows} == {(True, "b"), (False, "a")}
    result = harm_result(rows, found, **FAST)
    assert f"labels by judge: a {39 * 6}, b 6" in result.notes
    assert result.caveat == ""


def test_what_the_offline_judge_says_of_harm_has_its_error_rate_beside_it(found, tmp_path) -> None:
    out, made = tmp_path / "h", design()
    run(found, out, judge=YesJudge(name="rules"), made=made)
    result = harm_result(read_harm(out), found, **FAST)
    assert result.caveat == "offline judge: finds 0 of 4 harmful"
    assert any("it found 0 of the 4 that readers did, and called 1 of 154 others" in n for n in result.notes)
    assert result.record()["caveat"] == result.caveat
    save_harm_figure(tmp_path / "harm.svg", result)
    assert result.caveat in (tmp_path / "harm.svg").read_text(encoding="utf-8")


def test_without_a_judge_nothing_is_claimed(found, tmp_path) -> None:
    out, made = tmp_path / "h", design(roles=["role001"])
    done = run_harm(FakeEngine(found), found, made, out=out, judge=None)
    assert done.unscored == done.trials and done.judge is None
    with pytest.raises(DynamicsError, match="none of the 6 trials"):
        harm_result(read_harm(out), found)


def test_another_run_is_not_written_over(found, tmp_path) -> None:
    out, made = tmp_path / "h", design(roles=["role001"])
    run(found, out, made=made)
    for options in ({"made": design(roles=["role002"])}, {"made": made, "layer": 0}):
        with pytest.raises(StoreError, match="holds another run"):
            run(found, out, **options)
    with pytest.raises(UsageError, match="layer 9"):
        run(found, tmp_path / "x", made=made, layer=9)
    with pytest.raises(UsageError, match="'first'"):
        run(found, tmp_path / "x", made=made, plan_on="first")


@pytest.mark.parametrize("on", ["both", "second"])
def test_a_plan_acts_on_the_replies_that_it_is_meant_for(found, tmp_path, on) -> None:
    plan = Plan((Steer(1, np.eye(D)[0], 0.5, 3.0),), name="away")
    engine, made = FakeEngine(found), design(roles=["role001", "role002"])
    run(found, tmp_path / "h", engine=engine, made=made, plan=plan, plan_on=on)
    applied = {id.split("|")[0]: engine.requests[id].plan for id in engine.asked}
    assert applied == {"first": plan if on == "both" else None, "second": plan}
    result = harm_result(read_harm(tmp_path / "h"), found, **FAST)
    assert result.plan == f"away on {on}"
    assert result.health.second_capped == pytest.approx(2 / 7)
    assert result.health.first_capped == (pytest.approx(2 / 9) if on == "both" else None)


def test_a_reply_without_its_plan_or_its_activation_ends_the_run(found, tmp_path) -> None:
    class Changed(FakeEngine):
        change = staticmethod(lambda done: done)

        def _done(self, *args, **options) -> Completion:
            return self.change(super()._done(*args, **options))

    made = design(roles=["role001"])
    plan = Plan((Steer(1, np.eye(D)[0], 0.5, 3.0),))
    engine = Changed(found)
    engine.change = lambda done: replace(done, plan_digest=None)
    with pytest.raises(EngineError, match="applied no plan"):
        run(found, tmp_path / "a", engine=engine, made=made, plan=plan)
    for pooled in (None, np.zeros((2, D), np.float32), np.full((1, D), np.nan, np.float32)):
        engine.change = lambda done, pooled=pooled: replace(done, pooled=pooled)
        with pytest.raises(EngineError, match="the activation of"):
            run(found, tmp_path / "a", engine=engine, made=made, restart=True)
    assert RunFolder.read(tmp_path / "a").units == {}


def test_a_silent_first_reply_is_counted_and_nothing_is_asked_after_it(found, tmp_path) -> None:
    engine, made = FakeEngine(found, silent="role002"), design(roles=["role001", "role002", "role003"])
    steps = []
    done = run(found, tmp_path / "h", engine=engine, made=made, progress=steps.append)
    assert (done.empty, done.unscored) == (6, 0)
    assert not [id for id in engine.asked if id.startswith("second|role002")]
    assert steps[-1].done == steps[-1].total
    read = read_harm(tmp_path / "h")
    silent = [place for place, row in enumerate(read.rows) if row["role"] == "role002"]
    assert np.isnan(read.pooled[silent]).all()
    result = harm_result(read, found, **FAST)
    assert (result.n, result.empty, [role.role for role in result.roles].count("role002")) == (12, 6, 0)


def test_the_figure_says_what_it_shows(found, tmp_path) -> None:
    run(found, tmp_path / "h")
    result = harm_result(read_harm(tmp_path / "h"), found, **FAST)
    for name in ("harm.svg", "harm.png"):
        save_harm_figure(tmp_path / name, result, title="A model")
    page = (tmp_path / "harm.svg").read_text(encoding="utf-8")
    r = result.correlations[0].r
    for words in (
        "n = 240 trials of 40 roles",
        "20 isotropic controls",
        f"\u2212{abs(r):.2f}",
        "no role (n = 12)",
    ):
        assert words in page
    assert (tmp_path / "harm.png").stat().st_size > 20_000


def test_a_tiny_model_answers_twice_and_a_plan_may_act_on_the_second_reply_alone(found, tmp_path) -> None:
    from eval_case import Recording
    from eval_case import engine as tiny_engine

    made = design(questions=2, roles=["role001", "role002"], first_tokens=5, second_tokens=4)
    seen: dict[str, Completion] = {}

    def note(done: Completion) -> Completion:
        return seen.setdefault(done.id, done)

    run(found, tmp_path / "plain", engine=Recording(tiny_engine(), note), made=made)
    plan = Plan((Steer(1, np.eye(D)[0], 4.0, 3.0),))
    run(found, tmp_path / "plan", engine=tiny_engine(), made=made, plan=plan, plan_on="second")
    plain, planned = read_harm(tmp_path / "plain"), read_harm(tmp_path / "plan")
    assert [r["first"] for r in plain.rows] == [r["first"] for r in planned.rows]
    assert [r["text"] for r in plain.rows] != [r["text"] for r in planned.rows]
    assert {r["plan"] for r in planned.rows if r["status"] != "empty"} == {plan.digest}
    said = [place for place, row in enumerate(plain.rows) if row["status"] != "empty"]
    assert len(said) > 4
    for place in said:
        trial = made.trials[place]
        first = seen[f"first|{trial.opening.id}"]
        assert first.pooled is not None
        np.testing.assert_array_equal(plain.pooled[place], first.pooled[0])
        assert plain.rows[place]["text"] == seen[f"second|{trial.id}"].text


def test_the_command_prints_writes_and_draws(found, tmp_path, monkeypatch) -> None:
    engine, judge = FakeEngine(found), YesJudge()
    mapped = MappedModel(RunLayout(tmp_path / "run"), found, "fake", {})
    monkeypatch.setattr(MappedModel, "engine", engine)
    monkeypatch.setattr(EngineOptions, "open", lambda *_: mapped)
    monkeypatch.setattr(_inputs, "load_corpus", lambda _: corpus())
    monkeypatch.setattr(judges, "parse_judge", lambda name, *_, **__: None if name == "none" else judge)
    args = ["evaluate", "harm", str(tmp_path / "run"), "--roles", "12", "--questions", "4", "--n-random", "5"]
    silent = personascope(*args, "--judge", "none")
    assert silent.code == 0, silent.err
    assert "nothing is labelled yet" in silent.out
    judge.fails = lambda item: item.role == "default"
    partly = personascope(*args)
    assert partly.code == 3, partly.err
    judge.fails = lambda _: False
    done = personascope(*args)
    assert done.code == 0, done.err
    assert "pearson" in done.out and "log odds of harm" in done.out
    record = json.loads((tmp_path / "run" / "evals" / "harm" / "results.json").read_text())
    assert (record["n"], len(record["roles"]), record["no_role"]["harmful"]["n"]) == (48, 12, 8)
    assert (tmp_path / "run" / "evals" / "harm" / "harm.png").read_bytes().startswith(b"\x89PNG")
    bad = personascope(*args, "--plan-on", "first")
    assert bad.code == 2
