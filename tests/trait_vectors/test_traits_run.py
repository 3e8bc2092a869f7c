"""A trait run: which pairs are kept, what is counted, and how a killed run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import planted_traits as fakes
from helpers.trait_files import write_released
from personascope.corpus import load_traits
from personascope.errors import SpaceError, StoreError, UsageError
from personascope.space import PersonaMap
from personascope.store import RunFolder
from personascope.trait_vectors import build_trait_design, resolve_trait_profile


def rows(folder: Path) -> list[dict]:
    run = RunFolder.read(folder / "traits" / "own")
    return [row for index in sorted(run.units) for row in run.rows(index).to_pylist()]


def results(folder: Path) -> dict[str, bytes]:
    inside = folder / "map" / "traits" / "own"
    return {path.name: path.read_bytes() for path in inside.iterdir()}


def test_both_poles_answer_the_same_questions(tmp_path: Path) -> None:
    result = fakes.run(tmp_path, judge=fakes.PoleJudge())
    assert not result.collected.partial and result.collected.pairs == {"kept": 24}
    found = rows(tmp_path)
    assert len(found) == 4 * 6 * 2 == result.collected.total
    assert found[0]["id"] == f"trait|cautious/+/p{found[0]['prompt_index']}/q{found[0]['question_index']}/s0"
    for positive, negative in zip(found[::2], found[1::2], strict=True):
        assert positive["id"].replace("/+/", "/-/") == negative["id"]
        assert positive["question"] == negative["question"] and positive["fold"] == negative["fold"]
        assert "never" in negative["system_prompt"] and "never" not in positive["system_prompt"]
    asked = {row["trait"]: set() for row in found}
    for row in found:
        asked[row["trait"]].add(row["question_index"])
    assert len(asked) == 4 and len(set(map(frozenset, asked.values()))) == 1
    kinds = [fakes.BANK[index].kind for index in asked["formal"]]
    assert kinds.count("view") == kinds.count("advice") == 3, "balanced over the kinds of the bank"


def test_the_judge_sees_the_trait_and_not_the_prompt(tmp_path: Path) -> None:
    judge = fakes.PoleJudge()
    fakes.run(tmp_path, judge=judge)
    item = next(item for item in judge.seen if "/dramatic/" in item.id.replace("|", "/"))
    assert (item.role, item.description) == ("dramatic", "Speaks in a dramatic way.")
    assert item.rubric.name == "trait_score" and item.eval_prompt is None


def test_the_vector_is_the_mean_difference_of_the_kept_pairs(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=fakes.PoleJudge(), profile=replace(fakes.SMALL, keep="all"))
    found = rows(tmp_path)
    formal = [row["id"] for row in found if row["trait"] == "formal"]
    # The first pair differs by 49 points, the second by 50; in the third a pole refuses; the rest by 80.
    scores = {formal[0]: 59, formal[1]: 10, formal[2]: 60, formal[3]: 10, formal[4]: 101}
    other = tmp_path / "other"
    result = fakes.run(other, judge=fakes.PoleJudge(scores=scores), profile=replace(fakes.SMALL, keep="all"))
    assert result.collected.pairs == {"alike": 1, "kept": 22, "refused": 1}
    assert result.collected.statuses == {"refused": 1, "scored": 47}
    run = RunFolder.read(other / "traits" / "own")
    kept = {row["id"] for row in rows(other) if row["kept"] and row["trait"] == "formal"}
    assert kept == set(formal[2:4] + formal[6:])
    pooled = {}
    for index in run.units:
        part = run.part(index, "kept")
        pooled |= {name: part.read(name) for name in part.specs}  # pyright: ignore[reportOptionalMemberAccess]
    pairs = [(one, two) for one, two in zip(formal[::2], formal[1::2], strict=True) if one in kept]
    wanted = np.mean([pooled[one] - pooled[two] for one, two in pairs], axis=0)
    assert result.traits is not None
    # The kept sample is in bfloat16.
    np.testing.assert_allclose(result.traits.vector("formal"), wanted, atol=0.03)
    place = next(place for place in result.traits.places(1) if place.name == "formal")
    assert (place.kept, place.pairs) == (4, 6)
    assert place.points == (np.mean([59, 60, 90, 90, 90]), 10)


def test_too_few_pairs_are_listed_and_not_ranked(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=fakes.PoleJudge())
    scores = {row["id"]: 50 for row in rows(tmp_path) if row["trait"] == "cautious"}
    result = fakes.run(tmp_path / "b", judge=fakes.PoleJudge(scores=scores))
    assert result.traits is not None and result.traits.excluded == {"cautious": 0}
    assert "cautious" not in [place.name for place in result.traits.places(0)]
    with pytest.raises(UsageError, match="only 0 of its pairs were kept"):
        result.traits.vector("cautious")
    everything = {row["id"]: 50 for row in rows(tmp_path)}
    with pytest.raises(SpaceError, match="no trait has 2 kept pairs"):
        fakes.run(tmp_path / "c", judge=fakes.PoleJudge(scores=everything))


def test_without_a_judge_every_pair_is_kept_and_it_is_said(tmp_path: Path) -> None:
    result = fakes.run(tmp_path, judge=None)
    assert result.collected.statuses == {"unjudged": 48} and result.collected.pairs == {"kept": 24}
    assert result.traits is not None and result.traits.min_difference is None
    assert result.traits.record.judges == {} and result.traits.places(0)[0].points is None
    judged = fakes.run(tmp_path / "b", judge=fakes.PoleJudge())
    assert judged.traits is not None and judged.traits.min_difference == 50
    np.testing.assert_array_equal(judged.traits.space.vectors, result.traits.space.vectors)


def test_unscored_responses_are_counted_and_judged_again(tmp_path: Path) -> None:
    result = fakes.run(tmp_path, judge=fakes.PoleJudge(failing=30))
    unscored = result.collected.unscored
    assert result.collected.partial and unscored > 3
    assert result.collected.problem == f"{unscored} responses have no score"
    assert result.traits is not None and result.traits.record.unscored == unscored
    again = fakes.PoleJudge()
    engine = fakes.PlantedEngine(PersonaMap.open(tmp_path).axis.astype(np.float64))
    healed = fakes.run(tmp_path, judge=again, engine=engine)
    assert engine.generated == [] and len(again.seen) == unscored
    assert not healed.collected.partial and healed.collected.pairs == {"kept": 24}
    calm = fakes.run(tmp_path / "calm", judge=fakes.PoleJudge())
    assert healed.traits is not None and calm.traits is not None
    np.testing.assert_allclose(healed.traits.space.vectors, calm.traits.space.vectors, atol=1e-6)
    assert not any(run.name == "pending.safetensors" for run in tmp_path.rglob("units/*/*"))


def test_a_broken_judge_leaves_a_partial_run(tmp_path: Path) -> None:
    result = fakes.run(tmp_path, judge=fakes.PoleJudge(fatal_after=0))
    assert result.traits is None and result.collected.partial
    assert "the judge stopped: the quota is spent" in result.collected.problem
    assert "no traits in the map yet" in result.collected.problem
    assert PersonaMap.open(tmp_path).traits == ()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 17, 33])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, after: int, monkeypatch) -> None:
    from personascope.trait_vectors import _design

    monkeypatch.setattr(_design, "UNIT_ROLLOUTS", 8)
    fakes.run(tmp_path / "calm", judge=fakes.PoleJudge())
    persona_map = fakes.save_map(tmp_path / "killed" / "map")
    engine = fakes.PlantedEngine(persona_map.axis.astype(np.float64))
    whole = engine.run

    def dies(requests):
        for completion in whole(requests):
            if len(engine.generated) > after:
                raise KilledError
            yield completion

    engine.run = dies
    with pytest.raises(KilledError):
        fakes.run(tmp_path / "killed", engine=engine, judge=fakes.PoleJudge())
    fresh = fakes.PlantedEngine(persona_map.axis.astype(np.float64))
    fakes.run(tmp_path / "killed", engine=fresh, judge=fakes.PoleJudge())
    assert (
        len(fresh.generated) == (48 if after < 8 else 48 - 8 * ((after - 1) // 8))
        or len(fresh.generated) < 48
    )
    assert rows(tmp_path / "killed") == rows(tmp_path / "calm")
    assert results(tmp_path / "killed") == results(tmp_path / "calm")


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=None)
    with pytest.raises(StoreError, match="holds another run"):
        fakes.run(tmp_path, judge=None, seed=1)
    assert not fakes.run(tmp_path, judge=None, seed=1, restart=True).collected.partial


def test_released_files_make_the_same_requests(tmp_path: Path) -> None:
    ours = fakes.traits(tmp_path / "a")
    released = load_traits(write_released(tmp_path / "b"))
    one, two = (build_trait_design(found, fakes.BANK, fakes.SMALL, 3) for found in (ours, released))
    assert list(one) == list(two)
    for rollout in one:
        first, second = one.request(rollout), two.request(rollout)
        assert (first.id, first.prompt, first.seed, first.sampling) == (
            second.id, second.prompt, second.seed, second.sampling,
        )  # fmt: skip


def test_the_paper_asks_every_question_under_every_pair(tmp_path: Path) -> None:
    profile = replace(resolve_trait_profile("paper"), max_new_tokens=8)
    design = build_trait_design(fakes.traits(tmp_path / "a"), fakes.BANK, profile, 0)
    assert len(design) == 4 * 2 * 5 * 40
    ids = [rollout.id for rollout in design]
    assert len(set(ids)) == len(ids) and sum(len(design.unit(n)) for n in range(design.n_units)) == len(ids)
    places = design.fold_design
    assert len(set(places.prompts)) == 5 and len(set(places.questions)) == 2


def test_a_trait_may_be_asked_its_own_questions(tmp_path: Path) -> None:
    found = fakes.traits(tmp_path / "a")
    with pytest.raises(UsageError, match="'cautious' has no questions of its own"):
        build_trait_design(found, fakes.BANK, replace(fakes.SMALL, own_questions=True), 0)
    own = replace(
        found,
        traits=tuple(
            replace(trait, questions=tuple(f"{trait.name} {n}?" for n in range(9))) for trait in found.traits
        ),
    )
    design = build_trait_design(own, fakes.BANK, replace(fakes.SMALL, own_questions=True), 0)
    assert len(design) == 4 * 2 * 6
    assert all(design.question(rollout).startswith(rollout.trait) for rollout in design)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompts": 0}, "prompts is 0"),
        ({"questions": 1}, "questions is 1"),
        ({"min_difference": 101}, "101"),
    ],
)
def test_sizes_out_of_range_are_refused(change: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve_trait_profile("quick", **change)
    with pytest.raises(UsageError, match="no profile"):
        resolve_trait_profile("huge")
