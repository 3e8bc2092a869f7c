"""Operations and plans as values: what is refused, what is said, what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from personascope.errors import InterventionError, StoreError
from personascope.interventions import Ablate, Cap, Plan, PlanModel, Steer

V = np.array([3.0, 0.0, 4.0])
W = np.array([0.0, 1.0, 0.0])


def plan() -> Plan:
    return Plan(
        (Steer(2, V, -0.25, 8.0), Cap(4, W, floor=1.5, tokens="response")), PlanModel("m", "r1", 6, 3), "p"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Steer(-1, V, 1.0), "layer -1"),
        (lambda: Steer(1.5, V, 1.0), "layer 1.5"),  # pyright: ignore
        (lambda: Steer(True, V, 1.0), "layer True"),
        (lambda: Steer(0, np.ones((2, 3)), 1.0), r"shape \(2, 3\)"),
        (lambda: Steer(0, np.ones(0), 1.0), r"shape \(0,\)"),
        (lambda: Steer(0, np.array(["a", "b"]), 1.0), "dtype <U1"),
        (lambda: Steer(0, np.ones(3) * 1j, 1.0), "dtype complex"),
        (lambda: Steer(0, np.array([1.0, np.nan, 0.0]), 1.0), "1 values of its direction are not finite"),
        (lambda: Steer(0, np.zeros(3), 1.0), "length 0"),
        (lambda: Steer(0, V, float("inf")), "strength inf"),
        (lambda: Steer(0, V, 1.0, norm=0.0), "norm 0"),
        (lambda: Steer(0, V, "2"), "strength '2'"),  # pyright: ignore
        (lambda: Ablate(0, V, float("nan")), "to nan"),
        (lambda: Cap(0, V), "no bound"),
        (lambda: Cap(0, V, floor=2.0, ceiling=1.0), "floor of 2.0 above its ceiling of 1.0"),
        (lambda: Cap(0, V, floor=0.0, tokens="reply"), "acts on 'reply'"),
        (lambda: Cap(0, V, floor=0.0, tokens="turn:-1"), "acts on 'turn:-1'"),
        (lambda: Plan(()), "no operation"),
        (lambda: Plan(("steer",)), "holds str"),  # pyright: ignore
        (lambda: Plan((Steer(0, V, 1.0), Steer(1, np.ones(4), 1.0))), "3, 4 wide"),
        (lambda: Plan((Steer(6, V, 1.0),), PlanModel("m", "", 6, 3)), "layer 6, m has 6 layers"),
        (lambda: Plan((Steer(0, V, 1.0),), PlanModel("m", "", 6, 5)), "width 3, m is 5 wide"),
        (lambda: Plan((Cap(1, V, floor=1.0), Cap(1, -V, floor=0.0))), "caps of layer 1 at once"),
        (lambda: Plan((Cap(1, V, floor=1.0), Cap(1, V, ceiling=0.5))), "caps of layer 1 at once"),
        (lambda: Plan(tuple(Cap(1, np.eye(9)[i], floor=0.0) for i in range(7))), "7 caps at layer 1"),
        (lambda: Steer(0, V, 10**400), "strength 1000.* ..."),
        (lambda: Steer(0, V, 10**5000), "strength a int that is too large to show"),
        (lambda: Steer(0, V, 1.0, norm=1e39), r"norm 1e\+39, and float32 ends at 3.40282e\+38"),
        (lambda: Steer(0, V, 1e200, norm=1e200), "float32 ends at"),
        (lambda: Steer(0, V, 1e30, norm=1e30), r"strength times norm 1e\+60"),
        (lambda: Steer(0, V, 3e38, norm=3e38), "strength times norm"),
        (lambda: Cap(0, V, floor=1e300), r"floor 1e\+300"),
        (lambda: Cap(0, V, ceiling=-1e300), r"ceiling -1e\+300"),
        (lambda: Ablate(0, V, to=4e38), r"to 4e\+38"),
        (lambda: Steer(10**400, V, 1.0), "the layer 1000.* ..."),
        (lambda: Cap(0, V, floor=0.0, tokens="turn:" + "1" * 5000), "acts on 'turn:111.* ..."),
        (lambda: Cap(0, V, floor=0.0, tokens="turn:\u0661"), "acts on"),
        (lambda: Plan((Steer(0, V, 1.0),), None, "\ud800"), r"the plan has the name '\\ud800'"),
        (lambda: Plan((Steer(0, V, 1.0),), None, 3), "the plan has the name 3"),  # pyright: ignore
        (lambda: PlanModel("m", 3, 6, 3), "the revision 3"),  # pyright: ignore
        (lambda: PlanModel(None, "", 6, 3), "the id None"),  # pyright: ignore
        (lambda: PlanModel("m", "", 6.0, 3), "n_layers 6.0"),  # pyright: ignore
        (lambda: PlanModel("m", "", 6, 0), "d_model 0"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(make, text: str) -> None:
    with pytest.raises(InterventionError, match=text) as raised:
        make()
    assert raised.value.hint or "direction has length" in text


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (Steer(0, V, 100.0, norm=700.0), "strength times norm 70000"),
        (Steer(0, V, -7e4), "strength times norm -70000"),
        (Ablate(0, V, to=7e4), "to 70000"),
        (Cap(0, V, floor=7e4), "floor 70000"),
        (Cap(0, V, ceiling=-7e4), "ceiling -70000"),
    ],
)
def test_a_number_must_fit_the_dtype_of_the_model(op, says: str) -> None:
    for dtype in ("float32", "bfloat16"):
        Plan((op,)).check_dtype(dtype)
    with pytest.raises(InterventionError, match=f"{says}, and float16 ends at 65504"):
        Plan((op,)).check_dtype("float16")
    Plan((Cap(0, V, floor=6e4), Steer(0, V, 6e4))).check_dtype("float16")
    with pytest.raises(InterventionError, match="bfloat16 ends at"):
        Plan((Cap(0, V, ceiling=3.4e38),)).check_dtype("bfloat16")


def test_directions_are_kept_at_length_one_and_cannot_be_written() -> None:
    op = Steer(0, V, 2.0, 5.0)
    assert op.direction.dtype == np.float32
    np.testing.assert_allclose(op.direction, [0.6, 0.0, 0.8], rtol=1e-7)
    assert op.amount == 10.0
    assert Steer(0, V, 2.0).amount == 2.0
    with pytest.raises(ValueError, match="read-only"):
        op.direction[0] = 1.0


def test_the_digest_tells_what_changes_an_activation_and_nothing_else() -> None:
    base = plan()
    assert Plan(base.ops, None, "other name").digest == base.digest
    changed = [
        Plan(base.ops[::-1]),
        Plan((Steer(2, V, -0.26, 8.0), base.ops[1])),
        Plan((Steer(3, V, -0.25, 8.0), base.ops[1])),
        Plan((Steer(2, W, -0.25, 8.0), base.ops[1])),
        Plan((base.ops[0], Cap(4, W, floor=1.5))),
        Plan((base.ops[0], Cap(4, W, ceiling=1.5, tokens="response"))),
    ]
    assert len({p.digest for p in [base, *changed]}) == len(changed) + 1


def test_explanations_name_layers_amounts_bounds_and_places() -> None:
    text = (plan() + Plan((Cap(4, V, ceiling=9.0), Ablate(0, W, tokens="turn:2")))).explain()
    assert "layer 2: add -2 (-0.25 of the norm 8) along the direction, at every token." in text
    assert "layer 4: hold the projection on the direction at or above 1.5, at the response's tokens." in text
    assert "at or below 9, at every token" in text
    assert "layer 0: set the projection on the direction to 0, from message 2 on." in text
    assert "hold together (layer 4)" in text


def test_plans_add_up_in_order_and_other_models_are_refused() -> None:
    first, second = plan(), Plan((Steer(2, W, 1.0),), name="q")
    both = first + second
    assert [op.layer for op in both.ops] == [2, 4, 2]
    assert both.name == "p + q"
    assert both.model == first.model
    with pytest.raises(InterventionError, match="m and one of n"):
        _ = first + second.for_model(PlanModel("n", "r1", 6, 3))


def test_a_plan_of_another_model_is_refused_and_the_same_files_elsewhere_are_not() -> None:
    p = plan()
    p.check_model(model_id="elsewhere", revision="r1", n_layers=6, d_model=3)
    for other in ({"revision": "r2"}, {"model_id": "n", "revision": ""}):
        with pytest.raises(InterventionError, match="is of the model 'm'"):
            p.check_model(**({"model_id": "m", "revision": "r1", "n_layers": 6, "d_model": 3} | other))
    with pytest.raises(InterventionError, match="acts at layer 4, n has 4 layers"):
        p.for_model(None).check_model(model_id="n", revision="", n_layers=4, d_model=3)
    with pytest.raises(InterventionError, match="n is 7 wide"):
        p.for_model(None).check_model(model_id="n", revision="", n_layers=6, d_model=7)


def test_a_saved_plan_comes_back_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = Plan(
        (
            Steer(1, rng.normal(size=33), 0.1, 7.3),
            Cap(1, rng.normal(size=33), ceiling=-0.3),
            Ablate(0, np.ones(33)),
        )
    )
    p.save(tmp_path / "plan")
    again = Plan.load(tmp_path / "plan")
    assert again.digest == p.digest
    for a, b in zip(again.ops, p.ops, strict=True):
        assert a.direction.tobytes() == b.direction.tobytes()
    plan().save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan").model == PlanModel("m", "r1", 6, 3)
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == ["plan.json", "plan.safetensors"]
    assert not list(tmp_path.glob("*.tmp-*"))


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    plan().save(folder)
    record = json.loads((folder / "plan.json").read_text())
    record["ops"][0]["strength"] = 0.5
    (folder / "plan.json").write_text(json.dumps(record))
    with pytest.raises(InterventionError, match="its record says"):
        Plan.load(folder)
    record["ops"][0]["op"] = "push"
    (folder / "plan.json").write_text(json.dumps(record))
    with pytest.raises(InterventionError, match="push"):
        Plan.load(folder)
    plan().save(folder)
    data = (folder / "plan.safetensors").read_bytes()
    (folder / "plan.safetensors").write_bytes(data[:-8])
    with pytest.raises(StoreError, match=r"plan\.safetensors"):
        Plan.load(folder)
    with pytest.raises(StoreError, match="nothing"):
        Plan.load(tmp_path / "nothing")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        plan().save(folder)
