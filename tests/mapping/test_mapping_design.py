from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace

import fakes
import pytest

from personascope.corpus import RoleEntry, load_corpus
from personascope.engines import EngineInfo
from personascope.errors import CorpusError, UsageError
from personascope.mapping import PROFILES, build_design, estimate_disk, plan_run
from personascope.mapping._sample import draw_questions


def full_corpus():
    return fakes.corpus(275, 240)


@pytest.mark.parametrize(
    ("name", "total"),
    [("quick", 120 * 8 + 2 * 8 * 5), ("standard", 275 * 12 + 2 * 12 * 8), ("paper", 330480)],
)
def test_profiles(name: str, total: int) -> None:
    design = build_design(full_corpus(), PROFILES[name], 0, "m")
    assert len(design) == total
    if name != "paper":
        per_role: dict[str, set[int]] = {}
        for rollout in design:
            per_role.setdefault(rollout.role, set()).add(rollout.question_index)
        assert {frozenset(questions) for questions in per_role.values()} == {frozenset(design.questions)}


@pytest.mark.parametrize(("name", "prompts"), [("quick", 2), ("standard", 3), ("paper", 5)])
def test_prompts_are_drawn_over_short_and_long_and_share_the_questions(name: str, prompts: int) -> None:
    design = build_design(load_corpus(), PROFILES[name], 5, "m")
    used: Counter[int] = Counter()
    for group in (1, 2, 77):
        role = design.roles[group - 1]
        drawn = design.prompts_of(role)
        lengths = [len(role.prompts[index]) for index in drawn]
        assert len(set(drawn)) == prompts and (name == "paper" or lengths == sorted(lengths))
        counts = Counter(rollout.prompt_index for rollout in design.group_rollouts(group))
        assert set(counts) == set(drawn) and max(counts.values()) == min(counts.values())
    for role in design.roles:
        by_length = sorted(range(5), key=lambda index: len(role.prompts[index]))
        used.update(by_length.index(index) for index in design.prompts_of(role))
    # Over roles, every rank of length is drawn about as often.
    assert set(used) == set(range(5)) and max(used.values()) < 2.2 * min(used.values())


def test_folds_are_questions_and_places_of_prompts_for_everybody() -> None:
    design = build_design(load_corpus(), PROFILES["standard"], 5, "m")
    known = design.fold_design
    assert known.questions == tuple(range(12)) and known.prompts == (0, 1, 2) * 4
    blocks = {question: number for number, question in enumerate(design.questions)}
    for group in (0, 1, 9, 275):
        for rollout in design.group_rollouts(group):
            assert known.questions[rollout.fold] == blocks[rollout.question_index]
            if group:
                drawn = design.prompts_of(design.roles[group - 1])
                assert drawn[known.prompts[rollout.fold]] == rollout.prompt_index
    # In each place of a prompt the kinds of question are as mixed as they can be.
    kinds = [[design.corpus.questions[q].kind for q in design.questions[place::3]] for place in range(3)]
    assert all(len(set(mixed)) >= 3 for mixed in kinds)


def test_a_crossed_design_asks_every_question_under_every_prompt() -> None:
    design = build_design(fakes.corpus(), fakes.SMALL, 3, "m")
    assert design.fold_design.questions == (0,) * 5 + (1,) * 5
    assert design.fold_design.prompts == (0, 1, 2, 3, 4) * 2
    cells = {(r.prompt_index, r.question_index) for r in design.group_rollouts(1)}
    assert cells == {(p, q) for p in range(5) for q in design.questions}
    for rollout in design.group_rollouts(2):
        assert design.fold_design.prompts[rollout.fold] == rollout.prompt_index


def test_questions_are_drawn_in_the_proportion_of_their_kinds_and_over_areas() -> None:
    corpus = load_corpus()
    for seed in range(5):
        for count in (8, 12, 24):
            drawn = draw_questions(corpus, replace(PROFILES["standard"], questions=count), seed)
            asked = [corpus.questions[index] for index in drawn]
            assert len(set(drawn)) == count and not any(question.kind == "personal" for question in asked)
            kinds = Counter(question.kind for question in asked)
            for kind, share in {"view": 102, "advice": 55, "situation": 33, "explanation": 28}.items():
                assert abs(kinds[kind] - count * share / 240) < 1
            assert max(Counter(question.area for question in asked).values()) <= (1 if count < 24 else 2)
    personal = draw_questions(corpus, replace(PROFILES["quick"], kinds=("personal",)), 0)
    assert {corpus.questions[index].kind for index in personal} == {"personal"}
    assert draw_questions(corpus, PROFILES["quick"], 1) != draw_questions(corpus, PROFILES["quick"], 2)
    with pytest.raises(UsageError, match="no questions of the kind 'riddle'"):
        draw_questions(corpus, replace(PROFILES["quick"], kinds=("riddle",)), 0)
    with pytest.raises(UsageError, match="asks 250 questions, the corpus has 240 of its 288"):
        draw_questions(corpus, replace(PROFILES["quick"], questions=250), 0)


def test_roles_are_drawn_in_proportion_over_their_groups() -> None:
    corpus = load_corpus()
    groups = Counter(role.group for role in corpus.roles)
    drawn = build_design(corpus, PROFILES["quick"], 4, "m").roles
    assert len({role.name for role in drawn}) == 120
    for group, count in Counter(role.group for role in drawn).items():
        assert abs(count - 120 * groups[group] / 275) < 1


def test_units_cover_the_design_and_the_default_comes_first_alone() -> None:
    design = build_design(fakes.corpus(), fakes.SMALL, 3, "m", unit_size=17)
    rollouts = list(design)
    assert [r for index in range(design.n_units) for r in design.unit(index)] == rollouts
    assert len({r.id for r in rollouts}) == len(rollouts) == len(design)
    assert [design.rollout_at(place) for place in range(len(design))] == rollouts
    for index in range(design.n_units):
        unit = design.unit(index)
        assert rollouts[design.unit_start(index)] == unit[0]
        assert len({rollout.role == "default" for rollout in unit}) == 1
    for group, name in enumerate(design.groups):
        holding = [i for i in range(design.n_units) if any(r.role == name for r in design.unit(i))]
        assert list(design.units_of(group)) == holding


def test_seed_decides() -> None:
    one, same, other = (build_design(full_corpus(), PROFILES["quick"], seed, "m") for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest
    assert list(one) == list(same)
    assert one.questions != other.questions
    assert one.kept() == same.kept() and len(one.kept() or ()) == 512


def test_requests() -> None:
    design = build_design(fakes.corpus(), fakes.SMALL, 3, "Hash-1B")
    plain, named = (next(r for r in design if r.prompt_index == p) for p in (0, 1))
    assert [message.role for message in design.request(plain).prompt] == ["user"]
    assert design.request(named).prompt[0].content == "You are Hash-1B."
    request = design.request(plain)
    assert (request.id, request.seed, request.capture.layers) == (plain.id, 3, None)
    assert request.sampling.max_new_tokens == 8 and request.logprobs
    assert [message.role for message in design.plain_conversation(named)] == ["user"]


def test_errors() -> None:
    with pytest.raises(UsageError, match="asks 12 questions, the corpus has 8"):
        build_design(fakes.corpus(), PROFILES["standard"], 0, "m")
    with pytest.raises(UsageError, match="no profile 'huge'"):
        plan_run(fakes.FakeEngine().info, fakes.corpus(), "huge")
    with pytest.raises(UsageError, match="default_samples is 0"):
        build_design(fakes.corpus(), replace(fakes.SMALL, default_samples=0), 0, "m")
    bad = replace(fakes.corpus(), roles=(RoleEntry("a/b", "", "", ("x",)),))
    with pytest.raises(CorpusError, match="'a/b'"):
        build_design(bad, fakes.SMALL, 0, "m")


def test_paper_design_on_a_large_model_fits_the_disk() -> None:
    corpus = replace(full_corpus(), default_prompts=("", "a", "b", "c", "d"))
    info = EngineInfo("fake", "lab/big", "r", 80, 8192, "bfloat16", "c")
    design = plan_run(info, corpus, "paper")
    assert len(design) == 331_200
    assert design.n_folds == 6 and design.unit_size * 80 * 8192 * 4 <= 512 * 2**20
    disk = estimate_disk(info, design)
    assert disk.total + disk.transient < 20 * 10**9
    assert plan_run(replace(info, n_layers=126, d_model=16384), corpus, "paper").n_folds == 4


def test_paper_design_takes_little_memory() -> None:
    design = build_design(full_corpus(), PROFILES["paper"], 0, "m")
    tracemalloc.start()
    count = sum(1 for group in range(6) for _ in design.group_rollouts(group))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 480 + 5 * 1200
    assert peak < 5 * 2**20
