"""A map of ours in the released layout, and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from map_case import N_LAYERS, ROLES, D, save_map

from personascope.errors import InteropError
from personascope.interop import export_released
from personascope.interop._import import import_released
from personascope.space import PersonaMap


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    return save_map(tmp_path_factory.mktemp("made") / "map")


def test_a_map_is_written_in_the_released_layout(found: PersonaMap, tmp_path: Path) -> None:
    export_released(found, tmp_path / "out")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.pt")}
    assert files == {"assistant_axis.pt", "default_vector.pt", *(f"role_vectors/{name}.pt" for name in ROLES)}
    for name in files:
        tensor = torch.load(tmp_path / "out" / name, weights_only=True)
        assert isinstance(tensor, torch.Tensor) and tensor.shape == (N_LAYERS, D)
        assert tensor.untyped_storage().nbytes() == N_LAYERS * D * 4


def test_in_float32_it_comes_back_without_loss(found: PersonaMap, tmp_path: Path) -> None:
    export_released(found, tmp_path / "out")
    back = import_released(tmp_path / "out")
    np.testing.assert_array_equal(back.axis.numpy(), found.axis)
    assert back.default_vector is not None
    np.testing.assert_array_equal(back.default_vector.numpy(), found.default_vector)
    assert tuple(sorted(back.role_vectors)) == tuple(sorted(found.roles))
    for name, vector in back.role_vectors.items():
        np.testing.assert_array_equal(vector.numpy(), found.role_vector(name))
    cosines = back.sign_cosines()
    assert cosines is not None and cosines.min() > 0.99999, (
        "axis = default - mean(roles), toward the Assistant"
    )


def test_in_bfloat16_it_comes_back_rounded_to_the_nearest(found: PersonaMap, tmp_path: Path) -> None:
    export_released(found, tmp_path / "out", dtype="bfloat16")
    back = import_released(tmp_path / "out")
    assert torch.equal(back.axis, torch.from_numpy(found.axis).bfloat16())
    ant = torch.from_numpy(np.ascontiguousarray(found.role_vector("ant")))
    assert torch.equal(back.role_vectors["ant"], ant.bfloat16())


def test_an_export_replaces_an_earlier_one_whole(found: PersonaMap, tmp_path: Path) -> None:
    export_released(found, tmp_path / "out")
    torch.save(torch.ones(N_LAYERS, D), tmp_path / "out/role_vectors/zebra.pt")
    export_released(found, tmp_path / "out")
    assert sorted(import_released(tmp_path / "out").role_vectors) == sorted(ROLES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_name_that_would_leave_the_folder_is_refused(
    found: PersonaMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PersonaMap, "roles", ("../ant",))
    monkeypatch.setattr(PersonaMap, "role_vector", lambda self, _name: self.axis)
    with pytest.raises(InteropError, match=r"'\.\./ant'"):
        export_released(found, tmp_path / "out")
    assert not list(tmp_path.iterdir())
