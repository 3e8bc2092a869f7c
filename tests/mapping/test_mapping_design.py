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


def full_corpus():
    return fakes.corpus(275, 240)


@pytest.mark.parametrize(
    ("name", "total"), [("quick", 1650 + 240), ("standard", 4400 + 960), ("paper", 330480)]
)
def test_profiles(name: str, total: int) -> None:
    design = build_design(full_corpus(), PROFILES[name], 0, "m")
    assert len(design) == total
    per_role: dict[str, set[int]] = {}
    if name != "paper":
        for rollout in design:
            per_role.setdefault(rollout.role, set()).add(rollout.question_index)
        assert {frozenset(questions) for questions in per_role.values()} == {frozenset(design.questions)}
        assert design.questions == tuple(range(len(design.questions)))


def test_short_profiles_use_the_shortest_prompt() -> None:
    design = build_design(load_corpus(), PROFILES["quick"], 0, "m")
    for rollout in design:
        if rollout.role != "default":
            lengths = [len(prompt) for prompt in design.role(rollout.role).prompts]
            assert lengths[rollout.prompt_index] == min(lengths)


def test_rotating_uses_prompts_equally() -> None:
    design = build_design(full_corpus(), replace(PROFILES["standard"], prompts="rotating"), 0, "m")
    for group in (1, 2, 77):
        counts = Counter(rollout.prompt_index for rollout in design.group_rollouts(group))
        assert len(counts) == 5 and max(counts.values()) - min(counts.values()) <= 1
    total = Counter(r.prompt_index for r in design if r.role != "default")
    assert max(total.values()) - min(total.values()) <= 5


def test_folds_are_balanced_and_units_cover_the_design() -> None:
    design = build_design(fakes.corpus(), fakes.SMALL, 3, "m", unit_size=17)
    for group in range(7):
        counts = Counter(r.fold for r in design.group_rollouts(group))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert set(counts) == set(range(8))
    rollouts = list(design)
    assert [r for index in range(design.n_units) for r in design.unit(index)] == rollouts
    assert len({r.id for r in rollouts}) == len(rollouts) == len(design)
    for group, name in enumerate(design.groups):
        holding = [i for i in range(design.n_units) if any(r.role == name for r in design.unit(i))]
        assert list(design.units_of(group)) == holding


def test_seed_decides() -> None:
    one, same, other = (build_design(full_corpus(), PROFILES["quick"], seed, "m") for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest
    assert list(one) == list(same)
    assert [r.fold for r in one] != [r.fold for r in other]
    assert one.kept() == same.kept() and len(one.kept() or ()) == 512


def test_requests() -> None:
    design = build_design(fakes.corpus(), fakes.SMALL, 3, "Hash-1B")
    plain, named = (next(r for r in design if r.prompt_index == p) for p in (0, 1))
    assert [message.role for message in design.request(plain).prompt] == ["user"]
    assert design.request(named).prompt[0].content == "You are Hash-1B."
    request = design.request(plain)
    assert (request.id, request.seed, request.capture.layers) == (plain.id, 3, None)
    assert request.sampling.max_new_tokens == 8


def test_errors() -> None:
    with pytest.raises(UsageError, match="asks 16 questions, the corpus has 8"):
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
    assert design.n_folds == 8 and design.unit_size * 80 * 8192 * 4 <= 512 * 2**20
    disk = estimate_disk(info, design)
    assert disk.total + disk.transient < 12 * 10**9
    assert plan_run(replace(info, n_layers=126, d_model=16384), corpus, "paper").n_folds == 4


def test_paper_design_takes_little_memory() -> None:
    design = build_design(full_corpus(), PROFILES["paper"], 0, "m")
    tracemalloc.start()
    count = sum(1 for group in range(6) for _ in design.group_rollouts(group))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 480 + 5 * 1200
    assert peak < 5 * 2**20
