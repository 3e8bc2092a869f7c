"""Which cap of a sweep is recommended: one that does more than every control of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from eval_case import tiny_run
from personascope.calibration import Cell, Sample, Window, check_dose, control_plans
from personascope.calibration._caps import cap_conditions
from personascope.calibration._cells import recommend
from personascope.directions import CONTROLS, controls_of
from personascope.errors import UsageError
from personascope.interventions import Cap
from personascope.stats import Difference, Interval


def change(value: float) -> Difference:
    return Difference(value, value - 0.01, value + 0.01, 0.01, 100, 20)


def cell(
    name: str,
    gain: float,
    *,
    of: str = "",
    control: str | None = None,
    loss: float = 0.0,
    kl: float = 0.01,
    away: bool = False,
) -> Cell:
    return Cell(
        name,
        "random" if of else "axis",
        (of,) if of else (),
        change(gain),
        change(0.0),
        change(-loss),
        0.0,
        0.5,
        Interval(kl, kl, kl, 100, 20),
        control,
        away,
    )


def chosen(cells: list[Cell]) -> tuple[str, str]:
    front = [c.condition for c in cells if c.kind == "axis"]
    return recommend(cells, front, max_capability_loss=0.02, max_incoherent_rise=0.02)


def controls(of: str, isotropic: float, shuffled: float, role_span: float) -> list[Cell]:
    values = {"isotropic": isotropic, "shuffled": shuffled, "role_span": role_span}
    return [cell(f"{kind} of {of}", gain, of=of, control=kind) for kind, gain in values.items()]


def test_a_cap_that_a_role_span_control_equals_is_not_recommended() -> None:
    name, why = chosen([cell("a", 0.2), *controls("a", 0.0, 0.1, 0.2)])
    assert name == "" and why.endswith("; 1 of them does no more than role-span controls")
    name, why = chosen(
        [cell("a", 0.2), *controls("a", 0.0, 0.3, 0.2), cell("b", 0.1), *controls("b", 0.0, 0.0, 0.4)]
    )
    assert name == ""
    assert "1 of them does no more than shuffled controls; 2 of them do no more than role-span" in why
    name, why = chosen(
        [cell("a", 0.2), *controls("a", 0.0, 0.1, 0.25), cell("b", 0.1), *controls("b", 0.0, 0.05, 0.09)]
    )
    assert name == "b"
    assert why.endswith("more than each of their isotropic, shuffled and role-span controls")


def test_a_sweep_with_fewer_kinds_says_which_it_left_out() -> None:
    name, why = chosen([cell("a", 0.2), cell("r", 0.1, of="a", control="isotropic")])
    assert name == "a"
    assert why.endswith("each of their isotropic controls; shuffled and role-span controls were not run")
    name, why = chosen([cell("a", 0.2)])
    assert name == "a" and "do more" not in why
    assert why.endswith("; isotropic, shuffled and role-span controls were not run")
    assert chosen([cell("a", 0.2, loss=0.5)])[0] == ""


@pytest.mark.parametrize("window", [Window(1, 4)])
def test_controls_of_every_kind_fire_as_often_as_the_cap(window: Window) -> None:
    sample = Sample.open(tiny_run())
    made = cap_conditions(sample, [window], [75], n_random=1)
    assert [c.name for c in made] == [
        *("cap 1:4 p75", "random 0 of cap 1:4 p75", "shuffled 0 of cap 1:4 p75"),
        "role-span 0 of cap 1:4 p75",
    ]
    assert [c.control for c in made] == [None, *CONTROLS]
    plan = made[0].plan
    assert plan is not None
    again = control_plans(tiny_run(), sample.persona_map, plan, controls_of(CONTROLS, 1))
    for condition, other in zip(made[1:], again, strict=True):
        assert condition.plan is not None and condition.plan.layers == plan.layers
        for op, same in zip(condition.plan.ops, other.ops, strict=True):
            assert isinstance(op, Cap) and isinstance(same, Cap)
            assert op.floor is not None
            along = sample.project(np.tile(op.direction, (5, 1))).values[:, op.layer]
            assert (along < op.floor).mean() == pytest.approx(0.75, abs=0.03)
            np.testing.assert_array_equal(op.direction, same.direction)
            assert same.floor == pytest.approx(op.floor, abs=0.05)


def test_of_the_cells_with_the_wanted_effect_the_one_of_least_divergence_is_recommended() -> None:
    cells = [cell("weak", 0.02, kl=0.001), cell("cheap", 0.2, kl=0.05), cell("strong", 0.5, kl=0.9)]
    limits = {"max_capability_loss": 0.02, "max_incoherent_rise": 0.02}
    assert recommend(cells, ["weak", "cheap", "strong"], **limits)[0] == "strong"
    name, why = recommend(cells, ["weak", "cheap", "strong"], max_kl=0.1, **limits)
    assert name == "cheap" and "0% nats" not in why and "2% coherence and 0.1 nats a token" in why
    # The wanted effect is half of the change in Assistant share, since harm does not change here.
    name, why = recommend(cells, [], min_effect=0.1, **limits)
    assert name == "cheap"
    assert why.startswith("least KL divergence (0.050 nats a token, gain +0.100) of the 2 cells with a gain")
    name, why = recommend(cells, [], min_effect=0.1, max_kl=0.01, **limits)
    assert name == "" and "none of the 2 cells with a gain of 0.1 costs at most 2% accuracy" in why
    # A control that does as much, however dear, still stands against the cell.
    beaten = [*cells, cell("control", 0.3, of="cheap", control="isotropic", kl=2.0)]
    assert recommend(beaten, [], min_effect=0.1, **limits)[0] == "strong"


def test_away_from_the_assistant_the_gain_is_the_assistant_share_lost() -> None:
    assert cell("a", -0.3, away=True).benefit == pytest.approx(0.3)
    assert cell("a", -0.3).benefit == pytest.approx(-0.15)


def test_strengths_have_one_sign_and_are_within_the_norm() -> None:
    check_dose([0.1, 0.2])
    check_dose([-0.1, -1.0])
    check_dose([1.5], anyway=True)
    with pytest.raises(UsageError, match=r"the strength -1.5 adds 1.5 times the length of a token"):
        check_dose([-0.1, -1.5])
    for strengths in ([], [0.0], [0.0, 0.1], [-0.1, 0.1]):
        with pytest.raises(UsageError, match="the strengths of a sweep are"):
            check_dose(strengths, anyway=True)
