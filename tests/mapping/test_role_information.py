"""Whether a response played its role, and what a map makes of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest

from personascope.chat import Message
from personascope.engines import ScoreRequest, TransformersEngine
from personascope.errors import EngineError, UsageError
from personascope.mapping import MAP, RunSums, collect_rollouts, open_run, run_map
from personascope.mapping._map import make_space
from personascope.mapping._sums import Vectors
from personascope.space import NUISANCES, PersonaMap
from personascope.store import RunFolder
from tiny import load_tiny


def rows(out: Path) -> list[dict]:
    folder = RunFolder.read(out)
    return [row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()]


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(load_tiny("llama"), max_batch=24)


def test_it_is_what_two_passes_over_the_response_say(engine: TransformersEngine, tmp_path: Path) -> None:
    design = fakes.design_for(engine, corpus=fakes.corpus(3, 4))  # pyright: ignore[reportArgumentType]
    with open_run(engine, design, tmp_path, None) as folder:
        collect_rollouts(engine, design, folder, None)
    generated = {c.id: c.token_ids for c in engine.run([design.request(r) for r in design])}
    seen = 0
    for row in rows(tmp_path):
        if not row["token_count"]:
            assert row["role_information"] is None
            continue
        user = Message("user", row["question"])
        system = (Message("system", row["system_prompt"]),) if row["system_prompt"] else ()
        own, none = (
            next(iter(engine.score([ScoreRequest("x", prompt, generated[row["id"]])]))).logprobs
            for prompt in ((*system, user), (user,))
        )
        assert row["role_information"] == pytest.approx(float(np.mean(own - none)), abs=2e-4)
        seen += bool(system)
    assert seen > 50


def test_the_threshold_is_the_default_s_under_neutral_prompts(tmp_path: Path) -> None:
    fakes.run(tmp_path)
    found = rows(tmp_path)
    neutral = [
        r["role_information"]
        for r in found
        if r["role"] == "default" and r["system_prompt"] and r["role_information"] is not None
    ]
    threshold = np.quantile(neutral, 0.95)
    for row in found:
        if row["role"] == "default" or not row["token_count"]:
            assert row["played"] is None
        else:
            assert row["played"] == (row["role_information"] > threshold)
    # Without a system prompt nothing is told, by definition.
    plain = [r for r in found if r["role"] == "default" and not r["system_prompt"] and r["token_count"]]
    assert plain and all(row["role_information"] == 0.0 for row in plain)


def test_each_response_is_scored_once_and_not_again_when_a_run_is_taken_up(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    result = fakes.run(tmp_path, engine=engine, judge=fakes.FakeJudge(failing=30))
    assert result.partial and len(engine.scored) == len(set(engine.scored)) > 100
    before = {row["id"]: (row["role_information"], row["played"]) for row in rows(tmp_path)}
    again = fakes.FakeEngine()
    fakes.run(tmp_path, engine=again, judge=fakes.FakeJudge())
    assert again.scored == []
    assert {row["id"]: (row["role_information"], row["played"]) for row in rows(tmp_path)} == before


def test_a_run_without_it_counts_every_response_as_played(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    design = fakes.design_for(engine, replace(fakes.SMALL, role_information=False))
    fakes.run(tmp_path, engine=engine, design=design)
    assert engine.scored == []
    assert {row["played"] for row in rows(tmp_path)} == {None}
    sums = RunSums(RunFolder.read(tmp_path), design, 3, 8)
    assert sums.counts("plain").sum() == 0 and sums.counts("fully").sum() > 0


def test_the_rubric_takes_in_what_did_not_play(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    design = fakes.design_for(engine)
    fakes.run(tmp_path, engine=engine, design=design, judge=fakes.FakeJudge())
    folder = RunFolder.read(tmp_path)
    played, rubric = (RunSums(folder, design, 3, 8, vectors=v) for v in ("played", "rubric"))
    assert played.counts("plain").sum() > 0 == rubric.counts("plain").sum()
    np.testing.assert_array_equal(rubric.counts("fully"), played.counts("fully") + played.counts("plain"))
    np.testing.assert_allclose(
        rubric.sums("fully", 1), played.sums("fully", 1) + played.sums("plain", 1), atol=1e-5
    )
    scored = sum(row["score"] == 3 for row in rows(tmp_path))
    assert rubric.counts("fully").sum() == scored


@pytest.mark.parametrize("broken", ["nan", "short"])
def test_an_engine_that_tells_no_probability_is_an_error(tmp_path: Path, broken: str) -> None:
    class Broken(fakes.FakeEngine):
        def score(self, requests):
            for scored in super().score(requests):
                values = scored.logprobs * np.nan if broken == "nan" else scored.logprobs[:-1]
                yield replace(scored, logprobs=values)

    with pytest.raises(EngineError, match="missing or not finite"):
        fakes.run(tmp_path, engine=Broken())


def test_a_default_without_neutral_prompts_is_refused_before_anything_runs() -> None:
    corpus = replace(fakes.corpus(), default_prompts=("",))
    with pytest.raises(UsageError, match="0 responses under a prompt with text"):
        fakes.design_for(fakes.FakeEngine(), corpus=corpus)
    assert fakes.design_for(fakes.FakeEngine(), corpus=corpus, role_information=False).n_default == 24


def test_a_map_records_what_was_played_and_what_its_components_follow(tmp_path: Path) -> None:
    engine = fakes.FakeEngine()
    run_map(engine, fakes.corpus(12), fakes.SMALL, out=tmp_path, judge=fakes.FakeJudge(), n_boot=20)
    found = PersonaMap.open(tmp_path / MAP)
    checks = found.checks
    assert checks is not None and "(2)" in found.design
    assert checks.correlations.shape == (3, len(NUISANCES), 4)
    assert (np.abs(checks.correlations) <= 1 + 1e-9).all()
    by_role = {name: [r for r in rows(tmp_path) if r["role"] == name] for name in checks.roles}
    for name, role in checks.roles.items():
        with_tokens = [row for row in by_role[name] if row["token_count"]]
        assert role.responses == len(with_tokens)
        assert role.played == sum(row["played"] for row in with_tokens)
        assert role.information == pytest.approx(np.mean([row["role_information"] for row in with_tokens]))
    assert checks.cut == 0.0 and checks.profile["questions"] == 4
    assert "axis" in repr(found) and found.verdict().headline in repr(found)
    layer = found.middle_layer
    expected = found.components(layer)[:5] @ found.unit_axis(layer)
    np.testing.assert_allclose(checks.cosines[layer], expected, atol=1e-4)


def test_the_verdict_with_the_other_vectors_is_that_of_the_map_made_of_them(tmp_path: Path) -> None:
    class Keen(fakes.FakeEngine):
        """Plays every role in two of three responses."""

        def score(self, requests):
            for number, scored in enumerate(super().score(requests)):
                name = scored.id.split("/")[0]
                shift = 0 if name == "default" else -5 if number % 3 else 5
                yield replace(scored, logprobs=scored.logprobs + shift)

    def mapped(vectors: Vectors) -> PersonaMap:
        run_map(Keen(), fakes.corpus(), fakes.SMALL, out=tmp_path, judge=None, vectors=vectors, n_boot=10)
        return PersonaMap.open(tmp_path / MAP)

    def grades(found: PersonaMap) -> tuple[str, ...]:
        return tuple(answer.grade for _, answer in found.verdict().answers)

    played, rubric = mapped("played"), mapped("rubric")
    assert played.checks is not None and rubric.checks is not None
    assert (played.checks.vectors, rubric.checks.vectors) == ("played", "rubric")
    told, back = played.checks.other, rubric.checks.other
    assert told is not None and back is not None
    assert (told.vectors, back.vectors) == ("rubric", "played")
    assert (told.layer, back.layer) == (rubric.middle_layer, played.middle_layer)
    assert (told.axis, told.main, told.default) == grades(rubric)
    assert (back.axis, back.main, back.default) == grades(played)


def test_too_few_roles_that_played_give_a_space_of_all_and_it_says_so(tmp_path: Path) -> None:
    class Deaf(fakes.FakeEngine):
        """Answers as if no role had been given."""

        def score(self, requests):
            for scored in super().score(requests):
                name = scored.id.split("/")[0]
                yield scored if name == "default" else replace(scored, logprobs=scored.logprobs + 5)

    engine = Deaf()
    design = fakes.design_for(engine)
    fakes.run(tmp_path / "run", engine=engine, design=design)
    space, made_of = make_space(RunFolder.read(tmp_path / "run"), design, engine.info, n_boot=10)
    assert made_of == "rubric" and len(space.roles) == 6
    run_map(Deaf(), fakes.corpus(), fakes.SMALL, out=tmp_path / "map", judge=None, n_boot=10)
    found = PersonaMap.open(tmp_path / "map" / MAP)
    assert found.checks is not None and found.checks.vectors == "rubric" and found.checks.played == 0.0
    assert found.checks.other is None
    assert found.verdict().axis.grade == "not found"
    assert any("0% of the responses played" in reason for reason in found.verdict().axis.reasons)
