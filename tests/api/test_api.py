"""What a notebook types: the same as the commands, on a tiny model, in a few lines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.cli_case import save_model, tree, write_corpus
from helpers.cli import personascope
from personascope import api, engines
from personascope.errors import SpaceError, StoreError, UsageError
from personascope.interventions import Plan, Steer

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho there"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a corpus and the run of its map."""
    folder = tmp_path_factory.mktemp("api")
    save_model(folder / "model")
    prepared = api.prepare_map(
        str(folder / "model"),
        "quick",
        corpus=write_corpus(folder / "corpus"),
        judge=None,
        loading={"dtype": "float32"},
        questions=4,
        default_samples=4,
    )
    assert prepared.layout.folder == Path("runs/model")
    longest, estimate = prepared.estimate()
    assert longest > 0 and estimate.rollouts > 0
    result = prepared.run(out=folder / "run", progress=False)
    assert not result.collected.partial and result.collected.rollouts == estimate.rollouts
    (folder / "chat.json").write_text(json.dumps(CHAT))
    return folder


def opened(place: Path, **options: Any) -> api.MappedModel:
    return api.MappedModel.open(place / "run", dtype="float32", progress=False, **options)


@pytest.fixture(scope="module")
def mapped(place: Path) -> api.MappedModel:
    return opened(place)


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: pytest.fail("a model was loaded"))


def test_a_map_is_opened_without_its_model_which_is_loaded_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = engines.load_engine
    monkeypatch.setattr(engines, "load_engine", lambda name, **o: loaded.append(name) or load(name, **o))
    told: list[str] = []
    mapped = opened(place, tell=told.append)
    assert (mapped.layer(), loaded) == (mapped.persona_map.middle_layer, [])
    assert mapped.engine is mapped.engine
    assert loaded == [str(place / "model")] and told == [f"loading {place / 'model'} ..."]
    given = opened(place, engine=mapped.engine)
    assert given.engine is mapped.engine and len(loaded) == 1


def test_a_map_folder_stands_for_its_run(place: Path) -> None:
    assert api.MappedModel.open(place / "run" / "map").layout.folder == place / "run"
    with pytest.raises(StoreError, match="does not exist"):
        api.MappedModel.open(place / "nowhere")


def test_an_engine_of_another_model_is_refused(place: Path) -> None:
    save_model(place / "other", "qwen3")
    with pytest.raises(StoreError, match="of the model"):
        opened(place, engine=engines.load_engine(str(place / "other"), dtype="float32"))


def test_an_evaluation_from_python_is_the_command_s(place: Path, mapped: api.MappedModel) -> None:
    found = api.susceptibility(
        mapped,
        api.Comparison(strengths=(-2.0, 0.0, 2.0), n_random=1),
        roles=2,
        prompts=1,
        corpus=place / "corpus",
        out=place / "python",
    )
    assert not found.partial and found.figure == place / "python" / "susceptibility.png"
    assert {result.kind for result in found.table.results} == {"plain", "axis", "random"}
    ran = personascope(
        *("evaluate", "susceptibility", place / "run", "--out", place / "command", "--roles", "2"),
        *("--corpus", place / "corpus", "--prompts", "1", "--strengths", "-2,0,2", "--n-random", "1"),
        *("--dtype", "float32", "--engine", "transformers"),
    )
    assert ran.code == 0, ran.err
    mine, theirs = (json.loads((place / name / "results.json").read_text()) for name in ("python", "command"))
    assert mine == theirs


def test_arguments_are_refused_before_the_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_model(monkeypatch)
    mapped = opened(place)
    for strengths in ((0.1, 0.1), (0.0,)):
        with pytest.raises(UsageError, match="the strengths are"):
            api.Comparison(strengths=strengths)
    with pytest.raises(UsageError, match="99"):
        api.jailbreak(mapped, api.Comparison(layer=99))
    with pytest.raises(UsageError, match="oracle"):
        api.harm(mapped, judge="oracle")
    with pytest.raises(UsageError, match="99 roles"):
        api.harm(mapped, roles=99)
    with pytest.raises(UsageError, match="no monitor"):
        api.open_monitor(None, stop=True)
    with pytest.raises(SpaceError, match="found no axis"):
        api.calibrate(mapped)
    with pytest.raises(UsageError, match="a:b"):
        api.calibrate(mapped, windows=("a:b",), anyway=True)
    with pytest.raises(UsageError, match="no judge was named"):
        api.prepare_map("some/model")


def test_a_base_model_is_steered_without_loading_the_map_s(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = place / "base"
    if not base.exists():
        save_model(base)
        # The same shape with other bytes: another revision.
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}, indent=1))
    loaded: list[str] = []
    load = engines.load_engine
    monkeypatch.setattr(engines, "load_engine", lambda name, **o: loaded.append(name) or load(name, **o))
    found = api.pretrained(
        opened(place), api.Comparison(strengths=(1.0,), n_random=1, controls=()), base=str(base), samples=2
    )
    assert loaded == [str(base)]
    layout = api.RunLayout.of(place / "run")
    assert found.run.path == layout.evaluation("pretrained")
    own = json.loads((layout.base / "norms.json").read_text())["revision"]
    assert own != api.PersonaMap.open(layout.map).model.revision


def test_plans_are_made_and_compared_with_controls_of_their_own(place: Path, mapped: api.MappedModel) -> None:
    told: list[str] = []
    mapped.tell = told.append
    plan = api.make_cap_plan(mapped, layers="1:4", axis_percentile=75, anyway=True)
    assert told[0].startswith("verdict on the map: ")
    same = api.make_cap_plan(mapped, layers="1:4", released_percentile=25, anyway=True)
    assert plan.digest == same.digest and plan.layers == (1, 2, 3)
    plan.save(place / "cap")
    assert list(api.load_plans([place / "cap"])) == [plan.name]
    with pytest.raises(UsageError, match="two plans are called"):
        api.load_plans([place / "cap", place / "cap"])
    control = api.make_random_control(mapped, place / "cap", draw=1)
    conditions = api.Comparison(plans={"cap": plan}, n_random=2).conditions(mapped)
    assert [c.name for c in conditions] == [
        *("plain", "cap", "random 0 of cap", "random 1 of cap", "shuffled 0 of cap", "shuffled 1 of cap"),
        *("role-span 0 of cap", "role-span 1 of cap"),
    ]
    assert conditions[3].plan is not None and conditions[3].plan.digest == control.digest
    steering = api.make_steering_plan(mapped, -0.5, layer=1, anyway=True)
    assert isinstance(steering.ops[0], Steer) and steering.ops[0].norm == mapped.norms()[1]
    answers = api.steer(mapped, plan=plan, max_new_tokens=4)
    assert [answer.name for answer in answers] == ["plain", "plan"]
    assert answers[1].completion.plan_digest == plan.digest


def test_conversations_are_held_replayed_analysed_and_watched(mapped: api.MappedModel) -> None:
    talks = api.simulate(mapped, domains=("coding",), per_domain=24, turns=2, max_new_tokens=3)
    layout = mapped.layout
    assert talks.run.path == layout.conversations() and not talks.simulation.partial
    (summary,) = talks.domains
    assert (summary.domain, summary.conversations, summary.turns) == ("coding", 24, 48)
    expected = np.nanmean([talks.run.positions(one)[0] for one in talks.run.dialogues])
    assert summary.first == pytest.approx(expected) and summary.capped is None
    again = api.replay(mapped, talks.run.path)
    assert again.run.path == layout.conversations("simulated_replayed")
    beside = api.compare_with_replay(talks.run.path, again.run.path)
    assert not beside.missing and (again.run.path / "replay.html").is_file()
    analysis = api.drift(talks.run.path, causes=False)
    assert (analysis.unfinished, analysis.causes, analysis.contrasts) == (0, None, ())
    assert json.loads(analysis.results.read_text())["layer"] == analysis.layer
    watched = api.calibrate_drift_monitor(
        mapped, talks.run.path, level="turn", false_alarms=0.2, domains=("coding",), anyway=True
    )
    assert watched.path == layout.monitor and layout.monitor_report.is_file()
    opened_again = api.open_monitor(layout.folder, stop=True)
    assert opened_again is not None and opened_again.on_alarm == "stop"


def test_turns_are_projected_as_they_are_asked_for(place: Path, mapped: api.MappedModel) -> None:
    found = api.project(mapped, place / "chat.json", probes=("pc1",))
    assert found.probes == ("axis", "pc1") and found.counted.entries == 0
    (entry,) = found
    assert [turn.role for turn in entry.turns] == ["user", "assistant"] and found.counted.entries == 1
    kept = api.project(mapped, place / "chat.json", out=place / "kept")
    (again,) = kept
    assert [t.axis.projection for t in again.turns] == [t.axis.projection for t in entry.turns]
    with pytest.raises(UsageError, match="goes with --out"):
        api.project(mapped, place / "chat.json", restart=True)


def test_a_map_is_written_as_pages_and_in_other_forms(place: Path) -> None:
    pages = api.write_pages(place / "run", out=place / "map.html")
    assert pages.report.read_text().startswith("<!") and pages.cases is None
    api.export(place / "run", "released", place / "released")
    release = api.import_release(place / "released", place / "imported")
    assert release.n_layers == api.PersonaMap.open(place / "run").n_layers
    assert isinstance(api.open_any(place / "imported"), type(release))
    Plan((Steer(1, np.eye(release.d_model)[0], 1.0, 2.0),), name="one").save(place / "one")
    with pytest.raises(UsageError, match="is a plan and cannot be written as released"):
        api.export(place / "one", "released", place / "no")
    before = tree(place / "imported")
    with pytest.raises(UsageError, match="holds no map, plan or imported release"):
        api.export(place / "corpus", "gguf", place / "no.gguf")
    assert tree(place / "imported") == before


def test_an_imported_release_stands_for_a_run_when_its_model_is_named(place: Path) -> None:
    api.export(place / "run", "released", place / "files")
    api.import_release(place / "files", place / "release")
    told: list[str] = []
    nameless = api.MappedModel.open(place / "release", tell=told.append)
    assert told == [f"{place / 'release'} is an imported release: {nameless.persona_map.lacking}"]
    with pytest.raises(UsageError, match="does not say of which model"):
        api.steer(nameless, anyway=True)
    with pytest.raises(UsageError, match="which it has not"):
        api.write_pages(place / "release")
    named = api.MappedModel.open(
        place / "release", model=str(place / "model"), dtype="float32", progress=False
    )
    (answer,) = api.steer(named, strengths=(0.0,), max_new_tokens=2)
    assert answer.name == "0"
    assert named.persona_map.model.revision == named.engine.info.model_revision != ""


def test_role_span_controls_of_an_axis_alone_are_refused_before_a_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.export(place / "run", "released", place / "axis")
    for vectors in (place / "axis").glob("role_vectors"):
        shutil.rmtree(vectors)
    api.import_release(place / "axis", place / "bare")
    no_model(monkeypatch)
    bare = api.MappedModel.open(place / "bare", model=str(place / "model"), progress=False)
    assert bare.persona_map.roles == ()
    for act in (api.susceptibility, api.coherence, api.harm):
        with pytest.raises(UsageError, match=r"bare holds no role vectors.*\n.*isotropic,shuffled"):
            act(bare)
    with pytest.raises(UsageError, match="holds no role vectors"):
        api.steer(bare, controls=("role-span",), anyway=True)


def test_a_judge_is_checked_when_it_is_chosen_and_made_when_it_judges(place: Path) -> None:
    with pytest.raises(UsageError, match="takes no option headers"):
        api.JudgeChoice.read("rules", headers={"a": "HOME"})
    with pytest.raises(UsageError, match="no judge 'nobody'"):
        api.JudgeChoice.read("rules", "nobody")
    limited = api.JudgeChoice.read("rules", "openai:m@http://h/v1", fallback_price=(1.0, 2.0), max_cost=3.0)
    assert limited.options == {}
    assert limited.fallback_options == {"price_in": 1.0, "price_out": 2.0, "max_cost": 3.0}
    assert api.read_headers(["api-key=HOME"]) == {"api-key": "HOME"}
    with pytest.raises(UsageError, match="a sweep needs a judge"):
        api.calibrate(opened(place), judge=api.JudgeChoice.read("none"), anyway=True)
    with pytest.raises(UsageError, match="no judge was named"):
        api.default_judge("some/model")


def test_what_each_engine_can_do_is_said_for_every_engine() -> None:
    rows = api.engine_support()
    assert len({tuple(row.levels) for row in rows}) == 1 and len(rows[0].levels) == 4
    assert {level for row in rows for level in row.levels.values()} >= {"yes", "no"}


def test_the_installation_is_looked_at() -> None:
    found = {one.what: one for one in api.check_installation()}
    assert found["torch"].verdict == "ok" and found["device"].verdict.startswith("dtype ")
