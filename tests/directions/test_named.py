"""Probes by name: what is found, what is refused, and the files that vectors come in."""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))
from map_case import N_LAYERS, D, save_map

from personascope.directions import parse_probes
from personascope.errors import InteropError, PersonascopeError, UsageError
from personascope.interop import export_control_vector, import_source, read_direction
from personascope.interventions import Plan, Steer
from personascope.space import PersonaMap

ROWS = np.random.default_rng(4).normal(size=(N_LAYERS + 1, D)).astype(np.float32)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    return save_map(tmp_path_factory.mktemp("probes") / "map")


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_the_maps_own_directions(found: PersonaMap) -> None:
    axis, other, pc, role = parse_probes(found, ["axis", "axis@3", "pc1@0", "role:cat"], 2)
    assert [p.name for p in (axis, other, pc, role)] == ["axis", "axis@3", "pc1@0", "role:cat"]
    assert [p.layer for p in (axis, other, pc, role)] == [2, 3, 0, 2]
    np.testing.assert_array_equal(axis.probe.direction, found.unit_axis(2))
    np.testing.assert_array_equal(other.probe.direction, found.unit_axis(3))
    np.testing.assert_allclose(pc.probe.direction, found.components(0)[0], atol=1e-6)
    toward = found.role_vector("cat")[2] - found.default_vector[2]
    np.testing.assert_allclose(role.probe.direction, unit(toward), atol=1e-6)
    assert len({p.digest for p in (axis, other, pc, role)}) == 4


def test_vectors_in_files(found: PersonaMap, tmp_path: Path) -> None:
    plain, shifted = torch.from_numpy(ROWS[1:].copy()), torch.from_numpy(ROWS)
    torch.save(plain, tmp_path / "kind.pt")
    torch.save({"vector": plain, "type": "mean"}, tmp_path / "dict.pt")
    torch.save(shifted.to(torch.bfloat16), tmp_path / "persona.pt")
    np.save(tmp_path / "one.npy", ROWS[3].astype(np.float64))
    save_file({"a": plain, "b": 2 * plain + 1}, tmp_path / "two.safetensors")
    steer = Plan(tuple(Steer(layer, ROWS[layer + 1], 2.0) for layer in (1, 2)))
    export_control_vector(steer, tmp_path / "control.gguf")
    at_two = ("persona.pt", "one.npy", "two.safetensors#a", "control.gguf")
    specs = [
        f"{tmp_path}/kind.pt",
        f"mean={tmp_path}/dict.pt@2",
        *(f"{tmp_path}/{name}@2" for name in at_two),
    ]
    probes = parse_probes(found, specs, 1)
    assert [p.name for p in probes] == ["kind", "mean@2", "persona@2", "one@2", "a@2", "control@2"]
    np.testing.assert_allclose(probes[0].probe.direction, unit(ROWS[2]), atol=1e-6)
    for probe in probes[1:]:
        np.testing.assert_allclose(probe.probe.direction, unit(ROWS[3]), atol=4e-3)
        assert float(np.linalg.norm(probe.probe.direction)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "said", "hint"),
    [
        ("axes", "no probe 'axes'", "did you mean axis"),
        ("cat", "no probe 'cat'", "role:cat"),
        ("role:cta", "no vector of a role 'cta'", "cat"),
        ("pc0", "no component pc0", "pc1 to pc"),
        ("pc99", "no component pc99", "pc1 to pc"),
        ("axis@4", "names the layer '4'", "0 to 3"),
        ("axis@-1", "names the layer '-1'", "0 to 3"),
        ("axis@", "names the layer ''", "0 to 3"),
        ("nowhere.pt", "no file nowhere.pt", "path"),
        ("evil.onnx", "'.onnx' says no known format", ".gguf"),
        ("axis=nowhere.pt", "cannot be called 'axis'", "NAME=FILE"),
        ("pc3=nowhere.pt", "cannot be called 'pc3'", "NAME=FILE"),
    ],
)
def test_what_is_not_there(found: PersonaMap, spec: str, said: str, hint: str) -> None:
    with pytest.raises(PersonascopeError) as caught:
        parse_probes(found, [spec], 1)
    assert said in caught.value.message and hint in caught.value.hint


def test_two_of_one_name_and_a_direction_without_length(found: PersonaMap, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two probes are called 'pc1'"):
        parse_probes(found, ["pc1", "pc1"], 1)
    np.save(tmp_path / "zero.npy", np.zeros(D))
    with pytest.raises(UsageError, match="'zero' is zero at layer 1"):
        parse_probes(found, [f"{tmp_path}/zero.npy"], 1)


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("it ran",)


def test_files_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(name: str, said: str, **more: str) -> None:
        with pytest.raises(InteropError, match=said):
            read_direction(tmp_path / name, 1, n_layers=N_LAYERS, d_model=D, **more)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload()))
    np.save(tmp_path / "evil.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    refused("evil.pt", r"evil\.pt")
    refused("evil.npy", "no array that can be read safely")
    assert "it ran" not in capsys.readouterr().out
    torch.save(torch.zeros(N_LAYERS + 2, D), tmp_path / "rows.pt")
    refused("rows.pt", f"has {N_LAYERS + 2} rows, and the model {N_LAYERS} blocks")
    torch.save(torch.ones(N_LAYERS, D + 1), tmp_path / "wide.pt")
    refused("wide.pt", f"width {D + 1}")
    torch.save({"other": torch.ones(D)}, tmp_path / "dict.pt")
    refused("dict.pt", "holds a dict of other")
    torch.save(torch.full((D,), float("nan")), tmp_path / "nan.pt")
    refused("nan.pt", "not finite")
    torch.save(torch.ones(1, N_LAYERS, D), tmp_path / "deep.pt")
    refused("deep.pt", "has shape")
    save_file({"a": torch.ones(D), "b": torch.ones(D)}, tmp_path / "two.safetensors")
    refused("two.safetensors", "several tensors: a, b")
    refused("two.safetensors", "no tensor 'c': a, b", key="c")
    refused("wide.pt", "no tensors by name", key="c")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "two.safetensors").read_bytes()[:50])
    refused("cut.safetensors", "cannot be read")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF and no more")
    refused("cut.gguf", "not a whole GGUF file")
    export_control_vector(Plan((Steer(2, np.ones(D), 1.0),)), tmp_path / "control.gguf")
    refused("control.gguf", r"has no direction\.1, but direction\.2")


def read(path: Path, layer: int = 2, key: str | None = None) -> np.ndarray:
    return read_direction(path, layer, n_layers=N_LAYERS, d_model=D, key=key)


def test_forms_in_which_others_save_vectors(tmp_path: Path) -> None:
    rows = [torch.from_numpy(row.copy()) for row in ROWS[1:]]
    torch.save(dict(enumerate(rows)), tmp_path / "dict.pt")
    torch.save({f"layer_{layer}": row for layer, row in enumerate(rows)}, tmp_path / "named.pt")
    torch.save({"directions": {str(layer): row for layer, row in enumerate(rows)}}, tmp_path / "of.pt")
    torch.save(rows, tmp_path / "list.pt")
    torch.save([torch.from_numpy(ROWS[0].copy()), *rows], tmp_path / "longer.pt")
    torch.save(torch.stack(rows).double(), tmp_path / "double.pt")
    torch.save({"vector": {2: rows[2]}}, tmp_path / "one.pt")
    torch.save(rows[2].tolist(), tmp_path / "numbers.pt")
    save_file({f"layer_{layer}": row for layer, row in enumerate(rows)}, tmp_path / "layers.safetensors")
    save_file(
        {f"model.layers.{layer}.residual": row for layer, row in enumerate(rows)},
        tmp_path / "dots.safetensors",
    )
    directions = {str(layer): row.tolist() for layer, row in enumerate(rows)}
    (tmp_path / "kind.svec").write_text(json.dumps({"model_type": "llama", "directions": directions}))
    (tmp_path / "nested.svec").write_text(json.dumps({"directions": {"2": [rows[2].tolist()]}}))
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(read(file), ROWS[3], rtol=1e-6, err_msg=file.name)
    for name in ("one.pt", "nested.svec"):
        with pytest.raises(InteropError, match="nothing at layer 1"):
            read(tmp_path / name, 1)


def test_a_vector_of_another_layer_by_its_name_is_refused(tmp_path: Path) -> None:
    row = torch.from_numpy(ROWS[3].copy())
    save_file({"layer_2": row, "bias": row.clone()}, tmp_path / "two.safetensors")
    save_file({"layer_2": row}, tmp_path / "one.safetensors")
    torch.save(row, tmp_path / "evil_layer2.pt")
    for path, key in [("two.safetensors", "layer_2"), ("one.safetensors", None), ("evil_layer2.pt", None)]:
        np.testing.assert_array_equal(read(tmp_path / path, 2, key), ROWS[3])
        with pytest.raises(InteropError, match="is a vector of layer 2, and layer 1 was asked for") as caught:
            read(tmp_path / path, 1, key)
        assert "@2" in caught.value.hint
    torch.save(row, tmp_path / "player_12.pt")
    torch.save(row, tmp_path / "12.pt")
    for path in ("player_12.pt", "12.pt"):
        np.testing.assert_array_equal(read(tmp_path / path, 1), ROWS[3])


class Counted:
    """Bytes that are taken at most while a block runs."""

    def __enter__(self) -> Counted:
        self.process = psutil.Process()
        self.before = self.process.memory_info().rss
        return self

    def __exit__(self, *_: object) -> None:
        self.taken = self.process.memory_info().rss - self.before


def test_sizes_that_nothing_stands_behind_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    itself: list[object] = []
    itself.append(itself)
    doubled: object = 1.0
    for _ in range(40):
        doubled = [doubled, doubled]
    deep: object = 1.0
    for _ in range(150):
        deep = [deep]
    for name, value, said in [
        ("wide.pt", torch.zeros(1).expand(200_000, 5000), "a tensor .200000, 5000. would take 4,000,000,000"),
        ("dict.pt", {"vector": torch.zeros(1).expand(5000, D), "type": "mean"}, "would take"),
        ("itself.pt", itself, "hold themselves"),
        ("doubled.pt", doubled, "hold themselves"),
        ("deep.pt", deep, "nested"),
        ("meta.pt", {"axis": torch.ones(N_LAYERS, D), "metadata": {"a": itself}}, "hold themselves"),
    ]:
        torch.save(value, tmp_path / name)
        with Counted() as counted, pytest.raises(InteropError, match=said):
            read(tmp_path / name)
        assert counted.taken < 2**26, name
        with pytest.raises(InteropError, match=said):
            import_source(tmp_path / name)
    whole = tmp_path / "whole.pt"
    torch.save(torch.from_numpy(ROWS), whole)
    with (
        zipfile.ZipFile(whole) as old,
        zipfile.ZipFile(tmp_path / "zip.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for one in old.namelist():
            new.writestr(one, old.read(one))
    with pytest.raises(InteropError, match="compressed"):
        read(tmp_path / "zip.pt")


@pytest.mark.parametrize("shape", [(2**40,), (10**9, 5000), (-1,), (2**63, 2**63)])
def test_a_header_that_lies_about_the_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (len(header) + 10) % 64) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(4 * D)
    (tmp_path / "x.npy").write_bytes(data)
    with Counted() as counted, pytest.raises(InteropError, match="no array that can be read"):
        read(tmp_path / "x.npy")
    assert counted.taken < 2**26
