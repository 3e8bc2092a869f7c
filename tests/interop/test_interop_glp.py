"""GLP files: directions that are projected out, and that llama.cpp refuses to add."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from map_case import save_map

from helpers.cli import personascope
from personascope.errors import InteropError
from personascope.interop import export_projection, read_direction
from personascope.interventions import Ablate, Cap, Plan, PlanModel, Steer

AXIS = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32) * 3
UNIT = AXIS / np.linalg.norm(AXIS, axis=1, keepdims=True)
MODEL = PlanModel("some/model", "abc", 6, 32)


def read(path: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return keys, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def as_glp(path: Path) -> tuple[float, dict[int, np.ndarray]]:
    """Read a file by the rules of the specification, section "Reader conformance"."""
    keys, tensors = read(path)
    assert struct.unpack("<I", path.read_bytes()[4:8]) == (3,)
    assert keys["glp.mode"] == "project" and keys["glp.spec_version"] == 1 and keys["glp.rank"] == 1
    assert keys["glp.hook_point"] == "residual_stream_post_layer"
    found = {}
    for name, values in tensors.items():
        head, _, number = name.partition(".")
        if head != "direction":
            continue
        layer = int(number)
        assert layer >= 1 and values.dtype == np.float32 and values.ndim == 1
        assert np.linalg.norm(values) == pytest.approx(1, abs=1e-6)
        found[layer] = values
    assert sorted(found) == [int(one) for one in str(keys["glp.layer_ids_zero_based"]).split(",")]
    content = b"".join(found[layer].tobytes() for layer in sorted(found))
    assert keys["glp.content_sha256"] == hashlib.sha256(content).hexdigest()
    return float(keys["glp.alpha_default"]), found  # type: ignore[arg-type]


def llama_cpp_takes(path: Path) -> bool:
    """Return whether llama.cpp's loader of control vectors takes a file: any other name stops it."""
    return all(
        name.split(".", 1)[0] == "direction"
        and name.split(".", 1)[-1].isdigit()
        and int(name.split(".")[1]) > 0
        for name in read(path)[1]
    )


def test_what_a_reader_subtracts_is_what_the_plan_removes(tmp_path: Path) -> None:
    plan = Plan((Ablate(4, AXIS[4]), Ablate(1, AXIS[1])), MODEL)
    export_projection(plan, tmp_path / "new/v.gguf", method="difference_of_means")
    alpha, directions = as_glp(tmp_path / "new/v.gguf")
    assert list(directions) == [1, 4]
    rng = np.random.default_rng(1)
    for op in plan.ops:
        h = rng.normal(size=(7, 32))
        d = directions[op.layer].astype(np.float64)
        # The operation of the specification against that of the plan.
        removed = h - alpha * (h @ d)[:, None] * d
        unit = op.direction.astype(np.float64)
        np.testing.assert_allclose(removed, h + (op.to - h @ unit)[:, None] * unit, atol=1e-6)
    keys, _ = read(tmp_path / "new/v.gguf")
    assert keys["general.base_model.0.name"] == "model" and keys["general.base_model.0.version"] == "abc"
    assert keys["general.base_model.0.organization"] == "some" and keys["glp.method"] == "difference_of_means"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.gguf"]


def test_llama_cpp_refuses_to_add_it(tmp_path: Path) -> None:
    plan = Plan((Ablate(2, AXIS[2]),))
    export_projection(plan, tmp_path / "v.gguf")
    assert not llama_cpp_takes(tmp_path / "v.gguf")
    export_projection(plan, tmp_path / "bare.gguf", guard=False)
    assert llama_cpp_takes(tmp_path / "bare.gguf")
    assert as_glp(tmp_path / "v.gguf")[1][2].tobytes() == as_glp(tmp_path / "bare.gguf")[1][2].tobytes()
    # As a direction to project on, it is read like any other file.
    np.testing.assert_allclose(
        read_direction(tmp_path / "v.gguf", 2, n_layers=6, d_model=32), UNIT[2], atol=1e-6
    )


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        (
            (Cap(3, AXIS[0], floor=0.0),),
            "Cap at layer 3 cannot be a GLP file: it removes the whole projection",
        ),
        ((Cap(3, AXIS[0], ceiling=0.0),), "Cap at layer 3"),
        ((Steer(3, AXIS[0], 1.0),), "Steer at layer 3 .* adds nothing"),
        ((Ablate(3, AXIS[0], to=1.5),), "this one sets it to 1.5"),
        ((Ablate(0, AXIS[0]),), "no direction at block 0"),
        ((Ablate(3, AXIS[0], tokens="response"),), "this one on 'response'"),
        ((Ablate(3, AXIS[0]), Ablate(3, AXIS[1])), "one direction a layer"),
    ],
)
def test_what_it_cannot_say_is_refused_by_name(ops, said: str, tmp_path: Path) -> None:
    with pytest.raises(InteropError, match=said):
        export_projection(Plan(ops), tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())


def test_a_cap_is_in_no_form_that_adds_or_projects(tmp_path: Path) -> None:
    Plan((Cap(3, AXIS[3], floor=-1.0),), MODEL).save(tmp_path / "cap")
    for form, said in (("gguf", "adds a vector and does nothing else"), ("glp", "holds it at its floor")):
        done = personascope("export", tmp_path / "cap", "--to", form, "--out", tmp_path / "v.gguf")
        assert done.code == 1 and "Cap at layer 3 cannot be a" in done.err and said in done.err
        assert "personascope serve --plan" in done.err and not (tmp_path / "v.gguf").exists()


def test_the_axis_of_a_map(tmp_path: Path) -> None:
    found = save_map(tmp_path / "map")
    args = ("--to", "glp", "--out", tmp_path / "v.gguf")
    done = personascope("export", tmp_path / "map", *args, "--layer", "3", "--layer", "1")
    assert done.code == 0 and "llama.cpp would add them" in done.out, done.err
    _, directions = as_glp(tmp_path / "v.gguf")
    assert list(directions) == [1, 3]
    for layer, direction in directions.items():
        np.testing.assert_allclose(direction, found.unit_axis(layer), atol=1e-6)
    assert personascope("export", tmp_path / "map", *args).code == 0
    assert list(as_glp(tmp_path / "v.gguf")[1]) == [found.middle_layer]
    for wrong, said in (
        (("--scale", "2"), "--scale 2.0 goes with --to gguf"),
        (("--dtype", "bfloat16"), "float32 alone"),
        (("--layer", "9"), "layer 9 is not in the map"),
    ):
        done = personascope("export", tmp_path / "map", *args, *wrong)
        assert done.code == 2 and said in done.err, done.err
