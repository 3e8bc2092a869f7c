"""Norms, thresholds with their signs, and the sweep: resumable, with controls, honest when nothing works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval_case import Recording, RuleJudge, corpus, engine, tiny_run
from personascope.calibration import (
    RESULT,
    Sample,
    SweepSettings,
    Window,
    axis_percentile_of_released,
    calibrate,
    cap_plan,
    default_windows,
    parse_window,
)
from personascope.calibration._caps import cap_conditions
from personascope.calibration._controls import matching_floors
from personascope.chat import Message
from personascope.corpus.datasets import load_chats
from personascope.directions import Control, norms_for
from personascope.directions._norms import residual_norms
from personascope.directions._norms_file import keep_norms, read_norms
from personascope.engines import Capture, TransformersEngine
from personascope.errors import EvaluationError, StoreError, UsageError
from personascope.evals import read_evaluation
from personascope.interventions import Cap, Plan
from personascope.report import save_calibration_figure
from personascope.store import RunFolder
from tiny import load_tiny

SETTINGS = SweepSettings(
    windows=(Window(1, 3), Window(2, 5)),
    axis_percentiles=(50.0, 90.0),
    n_random=2,
    controls=("isotropic",),
    roles=3,
    jailbreaks=4,
    questions=12,
    chats=6,
)

SMALL = replace(SETTINGS, windows=(Window(1, 3),), axis_percentiles=(90.0,), n_random=1)


def sample() -> Sample:
    return Sample.open(tiny_run())


def test_the_sign_trap_a_released_percentile_is_one_of_the_opposite_direction() -> None:
    found = sample()
    along = found.project()
    opposite = found.project(-found.persona_map.axis)
    np.testing.assert_allclose(opposite.values, -along.values, atol=1e-6)
    for layer in range(5):
        # The released file: a ceiling at the 25th percentile of <h, role - default>.
        ceiling = np.percentile(opposite.values[:, layer], 25)
        floor = along.floor_at_released_percentile(25, layer)
        assert floor == pytest.approx(-ceiling)
        assert floor == along.floor_at_axis_percentile(75, layer)
        assert floor > along.floor_at_axis_percentile(25, layer)
        below = (along.values[:, layer] < along.floor_at_axis_percentile(75, layer)).mean()
        assert below == pytest.approx(0.75, abs=0.02)
    assert axis_percentile_of_released(25) == 75
    with pytest.raises(UsageError, match=r"released_percentile is -1.*\n.*not a fraction"):
        axis_percentile_of_released(-1)
    with pytest.raises(UsageError, match="axis_percentile is 101"):
        along.floor_at_axis_percentile(101, 0)


def test_projections_are_of_roles_alone_unless_asked_and_sd_floors_are_what_they_say() -> None:
    found = sample()
    roles, everyone = found.project(), found.project(roles_only=False)
    assert "default" not in roles.groups
    assert set(everyone.groups) == {*roles.groups, "default"}
    column = roles.values[:, 2]
    assert roles.floor_at_mean_plus_sd(-1.5, 2) == pytest.approx(column.mean() - 1.5 * column.std())
    # The default lies nearer the Assistant than the roles: that is what the axis is.
    default = np.array([g == "default" for g in everyone.groups])
    assert everyone.values[default, 2].mean() > everyone.values[~default, 2].mean()


def test_cap_plans_hold_the_axis_of_their_layers_with_controls_that_fire_as_often() -> None:
    found = sample()
    conditions = cap_conditions(found, [Window(1, 4)], [75], n_random=2, controls=["isotropic"])
    assert [c.name for c in conditions] == [
        "cap 1:4 p75",
        "random 0 of cap 1:4 p75",
        "random 1 of cap 1:4 p75",
    ]
    plan = conditions[0].plan
    assert plan is not None
    assert plan.layers == (1, 2, 3)
    for op in plan.ops:
        assert isinstance(op, Cap)
        assert float(op.direction @ found.persona_map.unit_axis(op.layer)) == pytest.approx(1.0, abs=1e-6)
    for control in conditions[1:]:
        assert control.control_of == ("cap 1:4 p75",)
        assert control.plan is not None
        for op in control.plan.ops:
            assert isinstance(op, Cap)
            assert op.floor is not None
            below = (found.project(np.tile(op.direction, (5, 1))).values[:, op.layer] < op.floor).mean()
            assert below == pytest.approx(0.75, abs=0.03)
    floors = matching_floors(found, [op for op in plan.ops if isinstance(op, Cap)], Control("isotropic", 0))
    assert conditions[1].plan is not None
    for op in conditions[1].plan.ops:
        assert isinstance(op, Cap)
        assert floors[op.layer] == pytest.approx(op.floor, abs=0.05)


def test_a_cap_has_one_floor_said_in_one_way() -> None:
    found = sample()
    plan = cap_plan(found, Window(1, 3), mean_plus_sd=-1.5)
    for op in plan.ops:
        assert isinstance(op, Cap)
        assert op.floor == pytest.approx(found.project().floor_at_mean_plus_sd(-1.5, op.layer))
    assert cap_plan(found, Window(1, 3), axis_percentile=40).ops[0].layer == 1
    for floors in ({}, {"axis_percentile": 40.0, "mean_plus_sd": 1.0}):
        with pytest.raises(UsageError, match="give one of them"):
            cap_plan(found, Window(1, 3), **floors)


def test_windows() -> None:
    assert parse_window("2:5", 5) == Window(2, 5)
    for bad in ("5", "3:3", "4:2", "0:6", "a:b", "-1:2"):
        with pytest.raises(UsageError, match="is no band of layers of a model with 5"):
            parse_window(bad, 5)
    for layers in (1, 4, 30, 64, 80):
        windows = default_windows(layers)
        assert windows
        assert all(0 <= w.start < w.stop <= layers for w in windows)
    assert any(w.start <= 46 and w.stop >= 54 for w in default_windows(64))


def test_norms_are_means_over_content_tokens_of_both_speakers(tmp_path: Path) -> None:
    made = engine()
    chats = [
        (Message("user", "What is rain?"), Message("assistant", "Water that falls.")),
        (Message("system", "Be brief."), Message("user", "And the sea?"), Message("assistant", "Yes.")),
    ]
    norms = residual_norms(made, chats, source="two")
    total, count = np.zeros(5), 0
    for chat in chats:
        for turn in made.observe(chat, capture=Capture(norms=True)):
            if turn.role != "system":
                assert turn.norms is not None
                total += turn.norms * turn.token_count
                count += turn.token_count
    np.testing.assert_allclose(norms.mean, total / count)
    assert (norms.chats, norms.tokens, norms.skipped) == (2, count, ())
    assert residual_norms(made, chats, limit=1).chats == 1
    strict = TransformersEngine(load_tiny("gemma2"))
    twice = (Message("user", "One."), Message("user", "Two."))
    refused = residual_norms(strict, [twice, chats[0]], source="s")
    assert refused.chats == 1
    assert refused.skipped[0].startswith("chat 0: the chat template of tiny/gemma2 refuses")
    with pytest.raises(EvaluationError, match=r"no chat of s could be measured \(1 were refused\)"):
        residual_norms(strict, [twice], source="s")
    keep_norms(tmp_path, norms, revision="r")
    n_layers = len(norms.mean)
    again = read_norms(tmp_path, revision="r", n_layers=n_layers)
    assert again is not None
    np.testing.assert_array_equal(again.mean, norms.mean)
    with pytest.raises(StoreError, match="revision r, this is other"):
        read_norms(tmp_path, revision="other", n_layers=n_layers)
    (tmp_path / "norms.json").write_text("{}")
    with pytest.raises(StoreError, match="'mean' is missing"):
        read_norms(tmp_path, revision="r", n_layers=n_layers)


def test_norms_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    few = load_chats().chats[:2]
    first = norms_for(made, tmp_path, chats=few, source="few")
    monkeypatch.setattr(made, "observe", None)
    assert norms_for(made, tmp_path).source == "few"
    np.testing.assert_array_equal(norms_for(made, tmp_path).mean, first.mean)


def sweep(out: Path, made=None, judge: RuleJudge | None = None, settings: SweepSettings = SETTINGS):
    return calibrate(
        made or engine(), sample(), corpus(), out=out, judge=judge or RuleJudge(), settings=settings
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished sweep; a test that writes takes a copy."""
    out = tmp_path_factory.mktemp("swept") / "sweep"
    sweep(out)
    return out


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "copied"))


def test_a_sweep_measures_every_cap_and_its_controls(copied: Path) -> None:
    tmp_path = copied
    result = sweep(tmp_path)
    caps = [f"cap {w} p{p:g}" for w in SETTINGS.windows or () for p in SETTINGS.axis_percentiles]
    assert [c.condition for c in result.cells if c.kind == "axis"] == caps
    assert sum(c.kind == "random" for c in result.cells) == 2 * len(caps)
    assert set(result.front) <= set(caps)
    assert result.front
    record = json.loads((tmp_path / RESULT).read_text())
    assert [cell["condition"] for cell in record["cells"]] == [c.condition for c in result.cells]
    for cell in result.cells:
        assert 0 <= cell.firing_share <= 1
        assert cell.assistant.n == 3 * 4
        assert cell.harmful.n == 4
        assert cell.capability.n == 12
        assert cell.kl.n_clusters == 6 and cell.kl.estimate >= 0
        # Texts of a random model are noise; a cap that hardly fires must not look like one that does.
    strong = [c.firing_share for c in result.cells if c.condition.endswith("p90")]
    weak = [c.firing_share for c in result.cells if c.condition.endswith("p50")]
    assert min(strong) > 0
    assert sum(strong) > sum(weak)
    if result.recommended:
        assert Plan.load(tmp_path / "plan").digest == (result.plan.digest if result.plan else None)
    else:
        assert not (tmp_path / "plan").exists()
        assert "none of the" in result.why


def test_a_sweep_over_steering_has_a_cell_for_each_layer_and_strength(tmp_path: Path) -> None:
    settings = replace(SMALL, strengths=(-0.1, -0.4), layers=(1, 3), jailbreaks=2, questions=4, chats=4)
    result = sweep(tmp_path, settings=settings)
    names = [f"axis {strength}, layer {layer}" for layer in (1, 3) for strength in ("-0.4", "-0.1")]
    assert [c.condition for c in result.cells if c.kind == "axis"] == names
    by_name = {c.condition: c for c in result.cells}
    for layer in (1, 3):
        weak, strong = by_name[f"axis -0.1, layer {layer}"], by_name[f"axis -0.4, layer {layer}"]
        assert 0 < weak.kl.estimate < strong.kl.estimate
        control = by_name[f"random 0 at 0.4, layer {layer}"]
        assert control.control_of == (f"axis -0.4, layer {layer}",)
        assert (weak.strength, weak.layer) == (-0.1, layer) and (control.strength, control.layer) == (
            0.4,
            layer,
        )
    assert all(c.away and c.benefit == -c.assistant.estimate and c.firing_share == 0 for c in result.cells)
    assert (tmp_path / "norms.json").exists()
    save_calibration_figure(tmp_path / "pareto.svg", result)
    drawn = (tmp_path / "pareto.svg").read_text(encoding="utf-8")
    assert "gain: Assistant share lost" in drawn and "nats a token" in drawn
    with pytest.raises(UsageError, match=r"the layers are 1, 1"):
        sweep(tmp_path / "twice", settings=replace(settings, layers=(1, 1)))


def test_harm_by_the_offline_judge_has_its_error_rate_beside_it(tmp_path: Path) -> None:
    judge = RuleJudge()
    judge.name = "rules"
    result = sweep(tmp_path, judge=judge, settings=SMALL)
    assert set(result.jailbreak.caveats.values()) == {"offline judge: finds 0 of 4 harmful"}
    assert "finds 0 of 4" in (tmp_path / RESULT).read_text()
    save_calibration_figure(tmp_path / "pareto.svg", result)
    assert "offline judge: finds 0 of 4 harmful" in (tmp_path / "pareto.svg").read_text(encoding="utf-8")


def test_a_cap_that_costs_too_much_is_not_recommended(copied: Path) -> None:
    tmp_path = copied
    first = sweep(tmp_path)
    (first.plan or cap_plan(sample(), Window(1, 3), axis_percentile=50)).save(tmp_path / "plan")
    strict = SweepSettings(**{**vars_of(SETTINGS), "max_capability_loss": -1.0})
    result = sweep(tmp_path, settings=strict)
    assert result.recommended == ""
    assert result.plan is None
    assert not (tmp_path / "plan").exists()
    assert "costs at most -100% accuracy" in result.why


def vars_of(settings: SweepSettings) -> dict:
    return {name: getattr(settings, name) for name in settings.__slots__}


def test_a_killed_sweep_repeats_no_finished_cell(tmp_path: Path) -> None:
    made = engine()
    sweep(tmp_path / "whole", made, settings=SMALL)
    out = tmp_path / "killed"

    def cells() -> set[tuple[str, str]]:
        found = set()
        for name in ("susceptibility", "jailbreak", "basics", "divergence"):
            if (out / name / "manifest.json").exists():
                units = RunFolder.read(out / name).units.values()
                found |= {(name, unit.meta["condition"]) for unit in units}
        return found

    rng = np.random.default_rng(1)
    kills = 0
    for _ in range(40):
        before = cells()
        log = tmp_path / "log"
        log.write_text("")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                recorder = Recording(made)
                inner = recorder.inner

                def run(requests, inner=inner, log=log):
                    asked = list(requests)
                    with log.open("a") as file:
                        file.writelines(f"{request.id.split('|')[0]}\t{request.id}\n" for request in asked)
                    yield from inner.run(asked)

                recorder.run = run  # pyright: ignore[reportAttributeAccessIssue]
                sweep(out, recorder, settings=SMALL)
                code = 0
            finally:
                os._exit(code)
        if kills < 6:
            time.sleep(float(rng.uniform(0.1, 1.5)))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        for line in log.read_text().splitlines():
            condition, id = line.split("\t")
            if "|" not in id:  # an answer to an ordinary chat
                assert ("divergence", "answers without a plan") not in before
                continue
            name = "jailbreak" if id.split("|")[1].startswith(("persona/", "plain/")) else "susceptibility"
            assert (name, condition) not in before
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        assert status == 0
        break
    assert kills >= 2
    for name in ("susceptibility", "jailbreak"):
        whole, killed = read_evaluation(tmp_path / "whole" / name), read_evaluation(out / name)
        assert [[r["text"] for r in c.rows] for c in whole] == [[r["text"] for r in c.rows] for c in killed]
    a, b = (json.loads((folder / RESULT).read_text()) for folder in (tmp_path / "whole", out))
    assert a["recommended"] == b["recommended"]
    assert a["cells"] == b["cells"]


def test_labels_that_are_missing_make_the_sweep_partial(tmp_path: Path) -> None:
    result = sweep(tmp_path, judge=RuleJudge(lambda item: item.id.endswith("/name")), settings=SMALL)
    assert result.partial
    assert not sweep(tmp_path, settings=SMALL).partial


def test_a_run_that_kept_nothing_cannot_be_calibrated(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Sample.open(tmp_path)
