"""``personascope import`` and ``personascope export``."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from map_case import save_map
from release_case import ID, ROLES, make, same_release, write

from helpers.cli import Ran, personascope
from personascope.interop import Released, axis_plan
from personascope.interop._capping import import_capping_config
from personascope.interop._import import import_released
from personascope.interventions import Cap, Plan


def run(*args: str | Path) -> Ran:
    return personascope(*args)


def ok(*args: str | Path) -> str:
    done = run(*args)
    assert done.code == 0, (done.out, done.err)
    return " ".join(done.out.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "release", make())


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "map"
    save_map(folder)
    return folder


def test_a_release_is_imported_and_described(folder: Path, tmp_path: Path) -> None:
    said = ok("import", folder, "--out", tmp_path / "ours")
    assert same_release(Released.load(tmp_path / "ours"), import_released(folder))
    assert "6 layers of 32, bfloat16" in said and f"roles: {len(ROLES)}; traits: 2" in said
    assert "default - mean(roles) +1.000" in said and "2 experiments over 6 vectors" in said
    assert "axis -1.000 to -1.000" in said


@pytest.mark.parametrize("source", ["release", "release/capping_config.pt", "ours"])
def test_an_experiment_becomes_a_plan_that_explains_itself(source: str, folder: Path, tmp_path: Path) -> None:
    import_released(folder).save(tmp_path / "ours")
    said = ok("import", tmp_path / source, "--out", tmp_path / "plan", "--experiment", ID)
    plan = Plan.load(tmp_path / "plan")
    assert plan.digest == import_capping_config(folder / "capping_config.pt", ID)[ID].digest
    assert plan.explain().replace("\n", " ") in said
    assert "percentile 75 on the Assistant Axis" in said
    assert ("no axis to check" in said) == source.endswith(".pt")


def test_one_axis_file_is_imported(folder: Path, tmp_path: Path) -> None:
    said = ok("import", folder / "assistant_axis.pt", "--out", tmp_path / "axis")
    assert "sign: not checked" in said
    assert torch.equal(Released.load(tmp_path / "axis").axis, make().axis.bfloat16())


def test_wrong_imports_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    done = run("import", folder / "capping_config.pt", "--out", tmp_path / "x")
    assert done.code == 2 and ID in done.err
    done = run("import", folder / "assistant_axis.pt", "--out", tmp_path / "x", "--experiment", ID)
    assert done.code == 1 and "no capping config" in done.err
    done = run("import", tmp_path / "nowhere", "--out", tmp_path / "x")
    assert done.code == 1 and "nowhere" in done.err
    assert run("import", folder).code == 2
    assert not (tmp_path / "x").exists()


def test_a_map_is_exported_and_comes_back(mapped: Path, tmp_path: Path) -> None:
    ok("export", mapped, "--to", "released", "--out", tmp_path / "out")
    ok("import", tmp_path / "out", "--out", tmp_path / "ours")
    ok("export", tmp_path / "ours", "--to", "released", "--out", tmp_path / "out2", "--dtype", "bfloat16")
    one, other = import_released(tmp_path / "out"), import_released(tmp_path / "out2")
    assert one.axis.dtype == torch.float32 and torch.equal(one.axis.bfloat16(), other.axis)


def test_a_map_is_exported_as_a_control_vector_at_its_middle_layer(mapped: Path, tmp_path: Path) -> None:
    said = ok("export", mapped, "--to", "gguf", "--out", tmp_path / "v.gguf")
    assert "--control-vector-scaled" in said
    (tensor,) = gguf.GGUFReader(tmp_path / "v.gguf").tensors
    # The middle layer of 4 is 2, and its mean norm 12.
    assert tensor.name == "direction.2" and np.linalg.norm(tensor.data) == pytest.approx(12.0, rel=1e-5)
    args = ("--scale", "-0.5", "--layer", "1", "--layer", "3", "--model-hint", "llama")
    ok("export", mapped, "--to", "gguf", "--out", tmp_path / "v.gguf", *args)
    found = save_map(tmp_path / "map")
    for tensor, layer in zip(gguf.GGUFReader(tmp_path / "v.gguf").tensors, (1, 3), strict=True):
        assert tensor.name == f"direction.{layer}"
        along = float(tensor.data @ found.unit_axis(layer))
        assert along == pytest.approx(-0.5 * (10 + layer), rel=1e-5)


def test_a_plan_is_exported_as_what_it_is(tmp_path: Path) -> None:
    axis = np.random.default_rng(0).normal(size=(4, 24))
    axis_plan(axis, 3, 2.0).save(tmp_path / "steer")
    ok("export", tmp_path / "steer", "--to", "gguf", "--out", tmp_path / "v.gguf", "--scale", "3")
    (tensor,) = gguf.GGUFReader(tmp_path / "v.gguf").tensors
    assert np.linalg.norm(tensor.data) == pytest.approx(6.0, rel=1e-5)
    cap = Plan((Cap(2, axis[2], floor=-1.5),))
    cap.save(tmp_path / "cap")
    done = run("export", tmp_path / "cap", "--to", "capping", "--out", tmp_path / "c.pt")
    assert done.code == 2 and "--experiment" in done.err
    args = ("--experiment", "layers_2:3-p0.25")
    ok("export", tmp_path / "cap", "--to", "capping", "--out", tmp_path / "c.pt", *args)
    assert import_capping_config(tmp_path / "c.pt")["layers_2:3-p0.25"].digest == cap.digest


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("map", "--to", "capping"), "is a map"),
        (("steer", "--to", "released"), "is a plan"),
        (("steer", "--to", "gguf", "--layer", "2"), "--layer 2 is not for a plan"),
        (("ours", "--to", "gguf"), "is an imported release"),
        (("map", "--to", "released", "--scale", "2"), "--scale 2.0 goes with --to gguf"),
        (("map", "--to", "gguf", "--dtype", "float32"), "--dtype float32"),
        (("map", "--to", "gguf", "--experiment", "x"), "--experiment x goes with --to capping"),
        (("release", "--to", "gguf"), "holds no map, plan or imported release"),
    ],
)
def test_wrong_exports_say_what_to_do(
    args: tuple[str, ...], said: str, mapped: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "map").symlink_to(mapped)
    import_released(folder).save(tmp_path / "ours")
    axis_plan(np.ones((4, 24)), 3, 2.0).save(tmp_path / "steer")
    done = run("export", tmp_path / args[0], *args[1:], "--out", tmp_path / "out")
    assert done.code == 2 and "->" in done.err, done.err
    assert said in done.err
    assert not (tmp_path / "out").exists()
