"""Control directions: what each kind keeps of the axis, what it leaves out, and that a seed fixes it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))
from map_case import N_LAYERS, D, save_map

from personascope.directions import CONTROLS, Control, controls_of, on_control, random_unit, read_kinds
from personascope.errors import UsageError
from personascope.interventions import Ablate, Cap, Plan, Steer
from personascope.space import PersonaMap


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    return save_map(tmp_path_factory.mktemp("controls") / "map")


def test_isotropic_directions_are_the_bits_of_earlier_versions() -> None:
    digests = {
        (48, 0, 0): "d95c5c4ae1614974e62ba01d7b00b5a0ee8afbfaf2b436ee4ed1ec29937f532e",
        (48, 1, 0): "4bcc5090bda0f877246b0d1fa9cea8fe6d57392309313f867d50e7996d6f8343",
        (576, 2, 7): "8e7a3ba110b795deed59556eefee29cff9f257677565350cc758ab7d0680904b",
    }
    for (d_model, index, seed), digest in digests.items():
        own = np.eye(d_model)[0]
        for made in (
            random_unit(d_model, index, seed=seed),
            Control("isotropic", index, seed).direction(own, 0),
            Control("isotropic", index, seed).direction(own, 9),
        ):
            assert hashlib.sha256(made.astype("<f8").tobytes()).hexdigest() == digest
    plan = Plan((Cap(1, np.eye(48)[0], floor=2.0), Steer(2, np.eye(48)[0], 0.3, 5.0)), name="both")
    control = on_control(plan, Control("isotropic", 1, 3), floors={1: -4.0})
    assert control.name == "random 1 of both"
    assert control.digest == "31416cfcc1d270b49f65cd75ea71d6bd0008914c68bc6f357cb0afe254afef8b"


@pytest.mark.parametrize("kind", CONTROLS)
def test_every_control_is_of_length_one_fixed_by_seed_and_index(found: PersonaMap, kind: Any) -> None:
    axis = found.unit_axis(2)
    one, again, other, seeded = (
        Control(kind, index, seed).direction(axis, 2, found)
        for index, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(one, again)
    for different in (other, seeded):
        assert abs(float(one @ different)) < 0.999


def test_a_shuffled_axis_has_the_axis_s_coordinates_and_one_permutation_at_every_layer(
    found: PersonaMap,
) -> None:
    places = [
        np.argsort(Control("shuffled", 0).direction(np.arange(D, dtype=float), layer))
        for layer in range(N_LAYERS)
    ]
    assert all(np.array_equal(places[0], place) for place in places)
    for layer in range(N_LAYERS):
        axis = found.unit_axis(layer)
        made = Control("shuffled", 0).direction(axis, layer)
        np.testing.assert_array_equal(np.sort(made), np.sort(axis))
        np.testing.assert_array_equal(made[places[0]], axis)
        assert not np.array_equal(made, axis)


def test_a_role_span_direction_is_orthogonal_to_the_axis_and_a_sum_of_role_vectors(found: PersonaMap) -> None:
    weights: list[np.ndarray] = []
    for layer in range(N_LAYERS):
        axis = found.unit_axis(layer)
        vectors = found.role_vectors(layer).astype(float)
        centred = vectors - vectors.mean(axis=0)
        made = Control("role_span", 0).direction(axis, layer, found)
        assert abs(float(made @ axis)) < 1e-6
        solved, *_ = np.linalg.lstsq(centred.T, made, rcond=1e-9)
        np.testing.assert_allclose(centred.T @ solved, made, atol=1e-9)
        # In float32, as plans store directions, it is orthogonal too.
        op = Steer(layer, made, 1.0)
        assert abs(float(op.direction.astype(float) @ axis)) < 1e-6
        # The axis is not inside the span: taking it from a draw would have left the span.
        assert np.linalg.norm(axis - centred.T @ np.linalg.lstsq(centred.T, axis, rcond=None)[0]) > 0.1
        weights.append(solved)
    assert not np.allclose(weights[0], weights[1])


def fake_map(vectors: np.ndarray) -> PersonaMap:
    roles = tuple(f"r{number}" for number in range(len(vectors)))
    made = SimpleNamespace(roles=roles, folder="a/map", role_vectors=lambda _: vectors.astype(np.float32))
    return cast("PersonaMap", made)


def test_role_span_draws_have_the_role_vectors_covariance() -> None:
    rng = np.random.default_rng(0)
    scales = np.array([10.0, 3.0, 1.0, *[0.0] * 9])
    vectors = rng.normal(size=(60, 12)) * scales + 5
    axis = np.eye(12)[2]
    drawn = np.array(
        [control.direction(axis, 0, fake_map(vectors)) for control in controls_of(["role_span"], 200)]
    )
    assert np.abs(drawn[:, 2:]).max() < 1e-6
    # The wider of the two directions that are left carries most of the draws, as it does of the roles.
    assert (np.abs(drawn[:, 0]) > np.abs(drawn[:, 1])).mean() > 0.75
    assert abs((drawn[:, 0] > 0).mean() - 0.5) < 0.12


def test_a_control_of_a_plan_keeps_its_strength_and_stands_for_its_own_directions(found: PersonaMap) -> None:
    axis = [found.unit_axis(layer) for layer in range(N_LAYERS)]
    caps = Plan(tuple(Cap(layer, axis[layer], floor=1.0) for layer in (1, 2)), name="cap")
    floors = {1: 0.25, 2: -0.5}
    for control in controls_of(CONTROLS, 1, seed=2):
        made = on_control(caps, control, persona_map=found, floors=floors)
        assert made.name == f"{control.name} of cap" and made.layers == (1, 2)
        assert {op.layer: cast("Cap", op).floor for op in made.ops} == floors
        for op in made.ops:
            wanted = control.direction(axis[op.layer], op.layer, found)
            np.testing.assert_allclose(op.direction, wanted, atol=1e-6)
    toward_cat = found.role_vector("cat")[1] - found.default_vector[1]
    steer = Plan((Steer(1, toward_cat, -0.4, 8.0, "response"),))
    (op,) = on_control(steer, Control("role_span", 0), persona_map=found).ops
    assert isinstance(op, Steer)
    assert (op.amount, op.tokens) == (pytest.approx(-3.2), "response")
    assert abs(float(op.direction @ steer.ops[0].direction)) < 1e-6
    with pytest.raises(UsageError, match="Ablate at layer 1 has no control here"):
        on_control(Plan((Ablate(1, axis[1]),)), Control("shuffled", 0))


def test_a_map_without_enough_role_vectors_is_named_and_what_to_do() -> None:
    axis = np.eye(12)[0]
    control = Control("role_span", 0)
    rows = np.random.default_rng(1).normal(size=(4, 12))
    assert np.linalg.norm(control.direction(axis, 0, fake_map(rows))) == pytest.approx(1.0)
    with pytest.raises(UsageError, match=r"a/map has 3 role vectors, too few.*\n.*isotropic,shuffled"):
        control.direction(axis, 0, fake_map(rows[:3]))
    with pytest.raises(UsageError, match=r"a/map holds no role vectors.*\n.*isotropic,shuffled"):
        control.direction(axis, 0, fake_map(rows[:0]))
    with pytest.raises(UsageError, match="span 1 dimensions at layer 7"):
        control.direction(axis, 7, fake_map(np.outer(np.arange(5.0), np.ones(12))))
    with pytest.raises(UsageError, match="role-span 0 has no map"):
        control.direction(axis, 0)


def test_kinds_are_read_in_one_order_and_wrong_ones_are_named() -> None:
    assert read_kinds(["role-span", "isotropic"]) == ("isotropic", "role_span")
    assert read_kinds(CONTROLS) == CONTROLS and read_kinds(["role_span"]) == ("role_span",)
    assert read_kinds([]) == ()
    with pytest.raises(UsageError, match=r"no control 'uniform'.*\n.*isotropic, shuffled, role-span"):
        read_kinds(["uniform"])
    with pytest.raises(UsageError, match="'role-span' is given twice"):
        read_kinds(["role-span", "role_span"])
    names = [control.name for control in controls_of(CONTROLS, 2)]
    assert names == ["random 0", "random 1", "shuffled 0", "shuffled 1", "role-span 0", "role-span 1"]
