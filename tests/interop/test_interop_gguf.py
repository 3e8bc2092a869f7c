"""llama.cpp control vectors, read back with the gguf library."""

import builtins
from pathlib import Path

import gguf
import numpy as np
import pytest

from personascope.errors import InteropError, StoreError
from personascope.interop import axis_plan, export_control_vector
from personascope.interventions import Ablate, Cap, Plan, PlanModel, Steer

AXIS = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32) * 3
UNIT = AXIS / np.linalg.norm(AXIS, axis=1, keepdims=True)


def read(path: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    for tensor in reader.tensors:
        # All that llama.cpp's loader accepts.
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32 and len(tensor.shape) == 1
    return keys, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def test_what_is_added_stands_at_the_block_of_its_layer(tmp_path: Path) -> None:
    model = PlanModel("some/model", "abc", 6, 32)
    plan = axis_plan(AXIS, (1, 4, 5), 0.25, norm={1: 10.0, 4: 20.0, 5: 40.0}, model=model)
    export_control_vector(plan, tmp_path / "new/axis.gguf")
    keys, tensors = read(tmp_path / "new/axis.gguf")
    assert keys == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "some/model",
        "controlvector.layer_count": 3,
    }
    # Layer l is the output of block l here and there: no shift.
    assert list(tensors) == ["direction.1", "direction.4", "direction.5"]
    for layer, length in ((1, 2.5), (4, 5.0), (5, 10.0)):
        np.testing.assert_allclose(tensors[f"direction.{layer}"], length * UNIT[layer], rtol=1e-5, atol=1e-6)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["axis.gguf"]


@pytest.mark.parametrize(("strength", "scale"), [(1.0, 2.0), (-1.0, -2.0), (0.5, 4.0)])
def test_a_positive_scale_is_toward_the_assistant(strength: float, scale: float, tmp_path: Path) -> None:
    export_control_vector(axis_plan(AXIS, 3, strength), tmp_path / "v.gguf", scale=scale, model_hint="llama")
    keys, tensors = read(tmp_path / "v.gguf")
    assert keys["controlvector.model_hint"] == "llama"
    assert float(tensors["direction.3"] @ UNIT[3]) == pytest.approx(strength * scale, rel=1e-5)
    export_control_vector(axis_plan(AXIS, 3, strength), tmp_path / "v.gguf", scale=-scale)
    assert float(read(tmp_path / "v.gguf")[1]["direction.3"] @ UNIT[3]) == pytest.approx(
        -strength * scale, rel=1e-5
    )


def test_several_directions_of_a_layer_are_added_up(tmp_path: Path) -> None:
    plan = Plan((Steer(2, AXIS[0], 2.0), Steer(1, AXIS[3], 1.0), Steer(2, AXIS[1], -0.5, norm=6.0)))
    export_control_vector(plan, tmp_path / "v.gguf")
    keys, tensors = read(tmp_path / "v.gguf")
    assert list(tensors) == ["direction.1", "direction.2"] and keys["controlvector.model_hint"] == "unknown"
    np.testing.assert_allclose(tensors["direction.2"], 2 * UNIT[0] - 3 * UNIT[1], atol=1e-6)


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ((Steer(0, AXIS[0], 1.0),), "Steer at layer 0 cannot be a control vector: .*block 0"),
        ((Steer(2, AXIS[0], 1.0), Cap(3, AXIS[0], floor=0.0)), "Cap at layer 3"),
        ((Ablate(3, AXIS[0]),), "Ablate at layer 3"),
        ((Steer(2, AXIS[0], 1.0, tokens="response"),), "acts on 'response'"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused_by_name(ops, said: str, tmp_path: Path) -> None:
    with pytest.raises(InteropError, match=said):
        export_control_vector(Plan(ops), tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_means_nothing_is_refused(scale: float, tmp_path: Path) -> None:
    with pytest.raises(InteropError, match=f"the scale is {scale}"):
        export_control_vector(axis_plan(AXIS, 3, 1.0), tmp_path / "v.gguf", scale=scale)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.gguf").mkdir()
    with pytest.raises(StoreError, match=r"v\.gguf could not be written"):
        export_control_vector(axis_plan(AXIS, 3, 1.0), tmp_path / "v.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["v.gguf"]


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name == "gguf":
            raise ImportError(name)
        return real(name, *args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InteropError) as caught:
        export_control_vector(axis_plan(AXIS, 3, 1.0), tmp_path / "v.gguf")
    assert "personascope[gguf]" in caught.value.hint
