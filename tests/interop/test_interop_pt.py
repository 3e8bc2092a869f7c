"""Reading a file must never run it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from release_case import make, write

from personascope.errors import InteropError
from personascope.interop import import_source
from personascope.interop._capping import read_capping_config
from personascope.interop._import import import_axis, import_persona_vector, import_released
from personascope.interop._pt import read_pt


class Malicious:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
def test_the_pickle_of_these_tests_does_run_when_read_in_the_ordinary_way(save, tmp_path, marker) -> None:
    save(Malicious(marker), tmp_path / "bad.pt")
    if save is save_pickle:
        pickle.loads((tmp_path / "bad.pt").read_bytes()).close()
    else:
        torch.load(tmp_path / "bad.pt", weights_only=False).close()
    assert marker.exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize(
    "read", [read_pt, import_axis, read_capping_config, import_persona_vector, import_source]
)
def test_a_pickled_object_is_refused_by_name_and_not_run(save, read, tmp_path, marker) -> None:
    path = tmp_path / "downloaded.pt"
    save({"x": Malicious(marker), "axis": torch.ones(2, 3), "vectors": {}, "experiments": []}, path)
    with pytest.raises(InteropError, match=r"downloaded\.pt holds the pickled object .*open"):
        read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "assistant_axis.pt",
        "default_vector.pt",
        "role_vectors/ghost.pt",
        "trait_vectors/wry.pt",
        "capping_config.pt",
    ],
)
def test_a_pickled_object_anywhere_in_a_folder_is_refused(name: str, tmp_path: Path, marker: Path) -> None:
    folder = write(tmp_path / "release", make())
    torch.save(Malicious(marker), folder / name)
    with pytest.raises(InteropError, match=name.replace(".", r"\.")):
        import_released(folder)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"no model here at all", b"PK\x03\x04" + bytes(60), None])
def test_what_is_no_file_of_tensors_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "axis.pt"
    torch.save(torch.ones(40, 60), path)
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InteropError, match=r"axis\.pt"):
        import_axis(path)


def test_an_object_array_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    torch.save({"axis": np.ones((2, 3))}, tmp_path / "axis.pt")
    with pytest.raises(InteropError, match="numpy"):
        import_axis(tmp_path / "axis.pt")
    with pytest.raises(InteropError, match="there is no file"):
        import_axis(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(2, 3, dtype=torch.int64), "int64"),
        (torch.ones(2, 3).to_sparse(), "sparse"),
        (torch.ones(3), "shape [3]"),
        (torch.ones(2, 0), "shape [2, 0]"),
        (torch.tensor([[1.0, float("nan")]]), "1 of 2 values"),
        ([1.0, 2.0], "a list"),
        ({"vector": torch.ones(2, 3)}, "a dict"),
        ({"axis": "north"}, "a str"),
        (torch.tensor([[1.0, 2.0], [0.0, 0.0]]), "zero at a layer"),
    ],
)
def test_an_axis_that_is_none_is_refused(value: object, said: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "axis.pt")
    with pytest.raises(InteropError) as caught:
        import_axis(tmp_path / "axis.pt")
    assert said in str(caught.value) and "axis.pt" in str(caught.value)


def test_a_view_is_read_without_the_rest_of_its_storage(tmp_path: Path) -> None:
    whole = torch.randn(100, 8, 16)
    torch.save(whole[3], tmp_path / "axis.pt")
    axis = import_axis(tmp_path / "axis.pt").axis
    assert torch.equal(axis, whole[3])
    assert axis.untyped_storage().nbytes() == 8 * 16 * 4


def test_a_persona_vector_loses_the_embeddings_row(tmp_path: Path) -> None:
    stacked = torch.randn(7, 16)
    torch.save(stacked, tmp_path / "evil_response_avg_diff.pt")
    found = import_persona_vector(tmp_path / "evil_response_avg_diff.pt", n_layers=6)
    assert found.shape == (6, 16)
    # hidden_states[l + 1] is the output of block l.
    assert all(torch.equal(found[layer], stacked[layer + 1]) for layer in range(6))


@pytest.mark.parametrize(("rows", "n_layers"), [(6, 6), (8, 6), (1, None)])
def test_a_persona_vector_of_other_rows_is_refused(rows: int, n_layers: int | None, tmp_path: Path) -> None:
    torch.save(torch.ones(rows, 4), tmp_path / "v.pt")
    with pytest.raises(InteropError, match=f"has {rows} rows"):
        import_persona_vector(tmp_path / "v.pt", n_layers=n_layers)
