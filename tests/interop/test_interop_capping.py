"""The capping config: a ceiling on role - default is a floor along the axis, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from release_case import ID, D, capping, make, write

from personascope.errors import InteropError, StoreError
from personascope.interop import export_capping_config, parse_experiment_id
from personascope.interop._capping import import_capping_config, read_capping_config
from personascope.interop._import import import_released
from personascope.interventions import (
    Ablate,
    BatchedPlans,
    Cap,
    CapCounters,
    Plan,
    PlanModel,
    PlanTable,
    Steer,
)

MODEL = PlanModel("some/model", "abc", 6, D)


def applied(plan: Plan, layer: int, hidden: torch.Tensor) -> torch.Tensor:
    """Return [tokens, d] after a plan's operations at a layer."""
    table = PlanTable([plan], response_only=False)
    return BatchedPlans(table, [plan], CapCounters(1))(layer, hidden[None])[0]


def released_rule(hidden: torch.Tensor, vector: torch.Tensor, cap: float) -> torch.Tensor:
    """Return h - max(<h, u> - cap, 0) * u with u the vector at length 1, in float64."""
    wide, u = hidden.double(), vector.double() / vector.double().norm()
    return wide - (wide @ u - cap).clamp(min=0)[:, None] * u


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save(make().capping, tmp_path / "capping_config.pt")
    return tmp_path / "capping_config.pt"


def test_an_id_is_end_exclusive_and_says_whose_percentile_it_is() -> None:
    found = parse_experiment_id("layers_46:54-p0.25")
    assert found == (range(46, 54), 0.25)
    assert list(found.layers) == [46, 47, 48, 49, 50, 51, 52, 53]
    assert (found.released_percentile, found.axis_percentile) == (25.0, 75.0)
    assert "46 to 53" in found.explain() and "percentile 75 on the Assistant Axis" in found.explain()
    assert str(found) == "layers_46:54-p0.25"
    assert parse_experiment_id("layers_56:72-p0.01").axis_percentile == 99.0


@pytest.mark.parametrize(
    "text",
    [
        "layers_46:54",
        "layers_54:46-p0.25",
        "layers_4:4-p0.5",
        "layers_4:6-p25",
        "baseline",
        "layers_4-6-p0.5",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InteropError, match=text.replace(".", r"\.")):
        parse_experiment_id(text)


def test_ceilings_on_role_minus_default_become_floors_on_the_axis(path: Path) -> None:
    made = make()
    plan = import_capping_config(path, ID, model=MODEL)[ID]
    assert (plan.name, plan.model, plan.layers) == (ID, MODEL, (2, 3, 4))
    for op in plan.ops:
        assert isinstance(op, Cap)
        assert (op.floor, op.ceiling, op.tokens) == (-(1.5 - op.layer), None, "all")
        unit = made.axis[op.layer].float().numpy() / np.linalg.norm(made.axis[op.layer])
        assert float(op.direction @ unit) > 0.9999, "the plan's direction is the axis, not role - default"


def test_all_experiments_come_unless_one_is_named(path: Path) -> None:
    assert list(import_capping_config(path)) == [ID, "layers_3:4-p0.5"]
    (op,) = import_capping_config(path, "layers_3:4-p0.5")["layers_3:4-p0.5"].ops
    assert isinstance(op, Cap) and op.floor == 16.875
    with pytest.raises(InteropError, match="no experiment 'layers_9:9-p1'") as caught:
        import_capping_config(path, "layers_9:9-p1")
    assert ID in caught.value.hint


FLOATS = st.floats(-8, 8, width=32)


@settings(max_examples=80, deadline=None)
@given(
    hidden=hnp.arrays(np.float32, (5, 12), elements=FLOATS),
    vector=hnp.arrays(np.float32, 12, elements=FLOATS).filter(lambda v: np.linalg.norm(v) > 0.1),
    cap=st.floats(-10, 10, width=32),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_an_imported_plan_does_exactly_what_the_released_rule_does(
    tmp_path_factory, hidden, vector, cap, dtype
) -> None:
    path = tmp_path_factory.mktemp("capping") / "capping_config.pt"
    stored = torch.from_numpy(vector).to(dtype)
    torch.save(
        {
            "vectors": {"v": {"vector": stored, "layer": 1}},
            "experiments": [{"id": "layers_1:2-p0.25", "interventions": [{"vector": "v", "cap": cap}]}],
        },
        path,
    )
    plan = import_capping_config(path)["layers_1:2-p0.25"]
    h = torch.from_numpy(hidden)
    wanted = released_rule(h, stored, cap)
    torch.testing.assert_close(applied(plan, 1, h).double(), wanted, atol=2e-5, rtol=1e-5)
    # And once more, by the formula of METHOD section 5 on what the plan says.
    (op,) = plan.ops
    assert isinstance(op, Cap) and op.floor is not None
    v = torch.from_numpy(op.direction.copy()).double()
    floor = h.double() - (h.double() @ v - op.floor).clamp(max=0)[:, None] * v
    torch.testing.assert_close(floor, wanted, atol=2e-5, rtol=1e-5)
    # Out and in again it is the same plan, and the file means the same rule.
    export_capping_config({"layers_1:2-p0.25": plan}, path)
    (entry,) = torch.load(path)["vectors"].values()
    again = torch.load(path)["experiments"][0]["interventions"][0]["cap"]
    torch.testing.assert_close(released_rule(h, entry["vector"], again), wanted, atol=2e-5, rtol=1e-5)


def test_the_sign_trap_a_weaker_cap_would_show(tmp_path: Path) -> None:
    """The wrong reading (a floor at the 25th percentile of the axis) leaves most tokens alone."""
    rng = np.random.default_rng(0)
    axis = np.eye(D)[0]
    hidden = torch.from_numpy(rng.normal(size=(4000, D))).float()
    cap = float(np.quantile(hidden.numpy() @ -axis, 0.25))
    config = {
        "vectors": {"v": {"vector": torch.from_numpy(-3 * axis).bfloat16(), "layer": 0}},
        "experiments": [{"id": "layers_0:1-p0.25", "interventions": [{"vector": "v", "cap": cap}]}],
    }
    torch.save(config, tmp_path / "c.pt")
    plan = import_capping_config(tmp_path / "c.pt")["layers_0:1-p0.25"]
    moved = (applied(plan, 0, hidden) != hidden).any(-1).float().mean()
    assert 0.74 < float(moved) < 0.76
    (op,) = plan.ops
    assert isinstance(op, Cap) and op.floor is not None
    assert np.mean(hidden.numpy() @ axis < op.floor) == pytest.approx(0.75, abs=0.01)


def test_exported_and_imported_again_the_plans_are_the_same(path: Path, tmp_path: Path) -> None:
    plans = import_capping_config(path)
    export_capping_config(plans, tmp_path / "new/out.pt")
    again = import_capping_config(tmp_path / "new/out.pt")
    assert {name: plan.digest for name, plan in again.items()} == {n: p.digest for n, p in plans.items()}
    written = torch.load(tmp_path / "new/out.pt", weights_only=True)
    assert set(written) == {"vectors", "experiments"}
    # Layer 3 is capped by both experiments along one vector.
    assert sorted(entry["layer"] for entry in written["vectors"].values()) == [2, 3, 4]
    for entry in written["vectors"].values():
        assert set(entry) == {"vector", "layer"} and entry["vector"].shape == (D,)
        axis = make().axis[entry["layer"]]
        assert torch.cosine_similarity(entry["vector"].double(), axis, dim=0) < -0.9999
    assert [e["id"] for e in written["experiments"]] == list(plans)
    assert written["experiments"][1]["interventions"][0]["cap"] == -16.875
    assert type(written["experiments"][1]["interventions"][0]["cap"]) is float


def test_a_cap_calibrated_here_is_written_as_the_authors_read_it(tmp_path: Path) -> None:
    axis = np.random.default_rng(0).normal(size=D)
    plan = Plan((Cap(2, axis, floor=0.0), Cap(3, axis, ceiling=7.5)), MODEL, "ours")
    export_capping_config({"layers_2:4-p0.25": plan}, tmp_path / "c.pt", dtype="bfloat16")
    written = torch.load(tmp_path / "c.pt")
    floor, ceiling = written["experiments"][0]["interventions"]
    assert (floor["cap"], ceiling["cap"]) == (0.0, 7.5)
    unit = torch.from_numpy(axis / np.linalg.norm(axis))
    one, other = written["vectors"][floor["vector"]], written["vectors"][ceiling["vector"]]
    assert one["vector"].dtype == torch.bfloat16
    torch.testing.assert_close(one["vector"].double(), -unit, atol=2e-3, rtol=0)
    torch.testing.assert_close(other["vector"].double(), unit, atol=2e-3, rtol=0)
    assert (one["layer"], other["layer"]) == (2, 3)


def test_a_ceiling_read_back_moves_every_activation_as_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    plan = Plan((Cap(1, rng.normal(size=D), ceiling=0.5),), name="up")
    export_capping_config({"up": plan}, tmp_path / "c.pt")
    hidden = torch.from_numpy(rng.normal(size=(50, D))).float()
    back = import_capping_config(tmp_path / "c.pt")["up"]
    assert bool((applied(plan, 1, hidden) != hidden).any())
    torch.testing.assert_close(applied(back, 1, hidden), applied(plan, 1, hidden))


V = np.random.default_rng(2).normal(size=(2, D))


@pytest.mark.parametrize(
    ("ops", "name", "said"),
    [
        ((Steer(2, V[0], 1.0),), "x", "Steer at layer 2 is no cap"),
        ((Cap(1, V[0], floor=1.0), Ablate(2, V[0])), "x", "Ablate at layer 2 is no cap"),
        ((Cap(2, V[0], floor=-1.0, ceiling=1.0),), "x", "a floor of -1 and a ceiling of 1"),
        ((Cap(2, V[0], floor=-1.0, tokens="response"),), "x", "acts on 'response'"),
        ((Cap(2, V[0], floor=-1.0),), "layers_2:4-p0.5", "means layers 2 to 3"),
        ((Cap(2, V[0], floor=-1.0), Cap(2, V[1], floor=-1.0)), "x", "along two directions"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_by_name(ops, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InteropError, match=said):
        export_capping_config({name: Plan(ops)}, tmp_path / "c.pt")
    assert not list(tmp_path.iterdir())


def test_a_floor_and_a_ceiling_may_stand_as_two_caps(tmp_path: Path) -> None:
    plan = Plan((Cap(2, V[0], floor=-1.0), Cap(2, V[0], ceiling=1.0)), name="band")
    export_capping_config({"band": plan}, tmp_path / "c.pt")
    hidden = torch.from_numpy(np.random.default_rng(3).normal(size=(60, D)) * 3).float()
    back = import_capping_config(tmp_path / "c.pt")["band"]
    torch.testing.assert_close(applied(back, 2, hidden), applied(plan, 2, hidden), atol=1e-5, rtol=1e-5)
    one_by_one = hidden.double()
    for entry in torch.load(tmp_path / "c.pt")["experiments"][0]["interventions"]:
        vector = torch.load(tmp_path / "c.pt")["vectors"][entry["vector"]]["vector"]
        one_by_one = released_rule(one_by_one, vector, entry["cap"])
    torch.testing.assert_close(applied(plan, 2, hidden).double(), one_by_one, atol=1e-5, rtol=1e-5)


def test_nothing_and_two_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InteropError, match="no plan"):
        export_capping_config({}, tmp_path / "c.pt")
    plans = {"a": Plan((Cap(1, np.ones(4), floor=0.0),)), "b": Plan((Cap(1, np.ones(5), floor=0.0),))}
    with pytest.raises(InteropError, match="4, 5 wide"):
        export_capping_config(plans, tmp_path / "c.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        export_capping_config({"a": plans["a"]}, tmp_path / "file" / "c.pt")


def changed(**changes) -> dict:
    return make().capping | changes


ONE = {"v": {"vector": torch.ones(4), "layer": 1}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "no capping config"),
        ({"vectors": {}}, "no capping config"),
        (changed(vectors=[1]), "vectors is a list"),
        (changed(vectors={"v": {"vector": torch.ones(4)}}), "'v' lacks"),
        (changed(vectors={"v": {"vector": torch.ones(4), "layer": "3"}}), "layer '3'"),
        (changed(vectors={"v": {"vector": torch.ones(4), "layer": -1}}), "layer -1"),
        (changed(vectors={"v": {"vector": torch.ones(2, 4), "layer": 1}}), r"shape \[2, 4\]"),
        (changed(vectors={"v": {"vector": torch.zeros(4), "layer": 1}}), "'v' is zero"),
        (changed(vectors={**ONE, "w": {"vector": torch.ones(5), "layer": 1}}), "4, 5 wide"),
        (changed(experiments=[{"interventions": []}]), "experiment 0 has no id"),
        ({"vectors": ONE, "experiments": [{"id": "a"}, {"id": "a"}]}, "two experiments"),
        (
            {"vectors": ONE, "experiments": [{"id": "a", "interventions": [{"vector": "v"}]}]},
            "of 'a' has vector",
        ),
        (
            {"vectors": ONE, "experiments": [{"id": "a", "interventions": [{"vector": "w", "cap": 1.0}]}]},
            "along 'w'",
        ),
        (
            {"vectors": ONE, "experiments": [{"id": "a", "interventions": [{"vector": "v", "cap": None}]}]},
            "the cap None",
        ),
        (
            {
                "vectors": ONE,
                "experiments": [{"id": "a", "interventions": [{"vector": "v", "cap": float("nan")}]}],
            },
            "the cap nan",
        ),
        (
            {
                "vectors": ONE,
                "experiments": [{"id": "layers_1:3-p0.5", "interventions": [{"vector": "v", "cap": 1.0}]}],
            },
            "means layers 1 to 2, its caps are at 1",
        ),
    ],
)
def test_a_config_that_is_none_is_refused(value: object, said: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "capping_config.pt")
    with pytest.raises(InteropError, match=said):
        import_capping_config(tmp_path / "capping_config.pt")


def test_an_experiment_without_caps_has_no_plan(tmp_path: Path) -> None:
    config = capping(make().axis)
    config["experiments"].insert(0, {"id": "baseline", "interventions": []})
    torch.save(config, tmp_path / "c.pt")
    assert list(import_capping_config(tmp_path / "c.pt")) == [ID, "layers_3:4-p0.5"]
    assert next(iter(read_capping_config(tmp_path / "c.pt").experiments)) == "baseline"
    with pytest.raises(InteropError, match="'baseline' holds no cap"):
        import_capping_config(tmp_path / "c.pt", "baseline")


def test_a_layer_and_a_cap_may_be_tensors_of_one_number(tmp_path: Path) -> None:
    value = {
        "vectors": {"v": {"vector": torch.ones(4), "layer": torch.tensor(3)}},
        "experiments": [{"id": "a", "interventions": [{"vector": "v", "cap": torch.tensor(2.5).bfloat16()}]}],
    }
    torch.save(value, tmp_path / "c.pt")
    (op,) = import_capping_config(tmp_path / "c.pt")["a"].ops
    assert isinstance(op, Cap) and (op.layer, op.floor) == (3, -2.5)


def test_a_release_checks_its_capping_vectors_against_its_axis(tmp_path: Path) -> None:
    made = make()
    folder = write(tmp_path / "r", made)
    found = import_released(folder)
    assert found.capping is not None
    assert max(found.capping.axis_cosines(found.axis).values()) < -0.999
    assert found.to_plan(ID).digest == import_capping_config(folder / "capping_config.pt", ID)[ID].digest
    torch.save(capping(-made.axis), folder / "capping_config.pt")
    with pytest.raises(InteropError, match="away from the Assistant"):
        import_released(folder).to_plan(ID)
    torch.save(capping(made.axis[:, :-1]), folder / "capping_config.pt")
    with pytest.raises(InteropError, match="31 wide"):
        import_released(folder)
    (folder / "capping_config.pt").unlink()
    with pytest.raises(InteropError, match="no capping config"):
        import_released(folder).to_plan(ID)
