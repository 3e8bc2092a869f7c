"""The released folders in, kept, and out again."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors as hub_errors
from release_case import ID, N_LAYERS, ROLES, TRAITS, D, make, same, same_release, write

from personascope.errors import InteropError, StoreError
from personascope.interop import Released, export_released, import_source
from personascope.interop._import import import_axis, import_released
from personascope.interventions import Steer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_released_folder_is_read_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    made = make()
    found = import_released(write(tmp_path / "qwen", made, dtype))
    assert (found.n_layers, found.d_model) == (N_LAYERS, D)
    assert same(found.axis, made.axis.to(dtype)) and same(found.default_vector, made.default.to(dtype))
    assert sorted(found.role_vectors) == sorted(ROLES) and sorted(found.trait_vectors) == sorted(TRAITS)
    assert all(same(found.role_vectors[name], made.roles[name].to(dtype)) for name in ROLES)
    assert all(same(found.trait_vectors[name], made.traits[name].to(dtype)) for name in TRAITS)
    assert found.capping is not None and ID in found.capping.experiments
    cosines = found.sign_cosines()
    assert cosines is not None and cosines.min() > 0.99


def test_files_may_be_dicts_with_a_type_and_metadata(tmp_path: Path) -> None:
    made = make()
    folder = write(tmp_path / "r", made)
    torch.save(
        {"axis": made.axis.float(), "metadata": {"model": "a/b", "n": (3, 4)}}, folder / "assistant_axis.pt"
    )
    for name in ROLES:
        value = {"vector": made.roles[name].float(), "type": "pos_3", "role": name}
        torch.save(value, folder / "role_vectors" / f"{name}.pt")
    found = import_released(folder)
    assert found.metadata == {"model": "a/b", "n": [3, 4]}
    assert found.types == {f"role/{name}": "pos_3" for name in ROLES}
    assert same(found.role_vectors["bard"], made.roles["bard"].float())


def test_the_pipelines_own_folder_keeps_the_default_out_of_the_roles(tmp_path: Path) -> None:
    made = make()
    (tmp_path / "vectors").mkdir()
    mean = torch.stack([v.float() for v in made.roles.values()]).mean(0)
    default = made.default.float()
    torch.save(
        {
            "axis": default - mean, "default_mean": default, "role_mean": mean, "n_default": 1, "n_roles": 4,
        },
        tmp_path / "axis.pt",
    )  # fmt: skip
    for name, vector in {"default": default, **{k: v.float() for k, v in made.roles.items()}}.items():
        kind = "mean" if name == "default" else "pos_3"
        value = {"vector": vector, "type": kind, "role": name}
        torch.save(value, tmp_path / "vectors" / f"{name}.pt")
    found = import_released(tmp_path)
    assert sorted(found.role_vectors) == sorted(ROLES) and same(found.default_vector, default)
    assert found.metadata == {"n_default": 1, "n_roles": 4} and "role/default" not in found.types
    alone = import_axis(tmp_path / "axis.pt")
    assert same(alone.default_vector, default) and same(alone.role_mean, mean)


def test_an_axis_that_is_turned_round_is_refused(tmp_path: Path) -> None:
    made = make()
    folder = write(tmp_path / "r", made)
    torch.save(-made.axis.bfloat16(), folder / "assistant_axis.pt")
    with pytest.raises(InteropError, match=r"turned round.*6 of 6 layers") as caught:
        import_released(folder)
    assert "default - mean(roles)" in str(caught.value) and "role - default" in str(caught.value)
    one = made.axis.clone()
    one[4] *= -1
    torch.save(one.bfloat16(), folder / "assistant_axis.pt")
    with pytest.raises(InteropError, match=r"at layer 4.*1 of 6 layers"):
        import_released(folder)


def test_an_axis_file_of_the_pipeline_is_checked_alone(tmp_path: Path) -> None:
    axis, default = torch.randn(3, 8), torch.randn(3, 8)
    value = {"axis": -axis, "default_mean": default, "role_mean": default - axis}
    torch.save(value, tmp_path / "axis.pt")
    with pytest.raises(InteropError, match="turned round"):
        import_axis(tmp_path / "axis.pt")


def test_without_roles_or_default_there_is_no_check_and_that_shows(tmp_path: Path) -> None:
    torch.save(make().axis.float(), tmp_path / "axis.pt")
    assert import_axis(tmp_path / "axis.pt").sign_cosines() is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("role_vectors/bard.pt", torch.ones(N_LAYERS + 1, D), "role_vectors/bard has shape [7, 32]"),
        ("default_vector.pt", torch.ones(N_LAYERS, D + 1), "default_vector has shape [6, 33]"),
        ("role_vectors/bard.pt", {"vector": torch.ones(N_LAYERS, D), "role": "ghost"}, "'ghost'"),
        ("role_vectors/bard.pt", {"axis": torch.ones(N_LAYERS, D)}, "holds no vector"),
        ("role_vectors/default.pt", torch.ones(N_LAYERS, D), "two default vectors"),
        ("axis.pt", torch.ones(N_LAYERS, D), "both assistant_axis.pt and axis.pt"),
        ("vectors/bard.pt", torch.ones(N_LAYERS, D), "both role_vectors and vectors"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    name: str, value: object, said: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "r", make())
    (folder / name).parent.mkdir(exist_ok=True)
    torch.save(value, folder / name)
    with pytest.raises(InteropError) as caught:
        import_released(folder)
    assert said in str(caught.value)


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InteropError, match=r"no assistant_axis\.pt"):
        import_released(tmp_path / "empty")
    with pytest.raises(InteropError, match="no folder and no hub id"):
        import_released(tmp_path / "nowhere")
    with pytest.raises(InteropError, match="no part 'norms'"):
        import_released(tmp_path / "empty", parts=("norms",))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A dataset with one model in a snapshot of its own; the calls that were made."""
    write(tmp_path / "snapshot" / "qwen-3-32b", make())
    calls: list[dict] = []

    def snapshot_download(repo_id: str, **options: object) -> str:
        calls.append({"repo_id": repo_id, **options})
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_a_hub_id_fetches_one_models_files_of_the_dataset(hub: list[dict], tmp_path: Path) -> None:
    found = import_released("lu-christina/assistant-axis-vectors:qwen-3-32b", revision="abc")
    assert same_release(found, import_released(tmp_path / "snapshot" / "qwen-3-32b"))
    assert found.source == "lu-christina/assistant-axis-vectors:qwen-3-32b"
    (call,) = hub
    assert call["repo_id"] == "lu-christina/assistant-axis-vectors"
    assert (call["repo_type"], call["revision"]) == ("dataset", "abc")
    assert all(pattern.startswith("qwen-3-32b/") for pattern in call["allow_patterns"])
    assert {"qwen-3-32b/assistant_axis.pt", "qwen-3-32b/role_vectors/*.pt"} <= set(call["allow_patterns"])


def test_only_the_parts_that_are_wanted_are_fetched(hub: list[dict]) -> None:
    found = import_released("lu-christina/assistant-axis-vectors:qwen-3-32b", parts=("capping",))
    assert not [p for p in hub[0]["allow_patterns"] if "vectors/" in p or "default" in p]
    assert found.capping is not None and not found.role_vectors and found.default_vector is None


def test_the_released_dataset_needs_the_name_of_a_model(hub: list[dict]) -> None:
    with pytest.raises(InteropError, match="several models") as caught:
        import_released("lu-christina/assistant-axis-vectors")
    assert "lu-christina/assistant-axis-vectors:llama-3.3-70b" in caught.value.hint and not hub
    with pytest.raises(InteropError, match="no folder 'gemma-9'"):
        import_released("lu-christina/assistant-axis-vectors:gemma-9")
    with pytest.raises(InteropError, match="no hub id"):
        import_released("lu-christina/assistant-axis-vectors:../..")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (hub_errors.LocalEntryNotFoundError("offline"), "the hub cannot be reached"),
        (OSError("broken pipe"), "broken pipe"),
    ],
)
def test_a_hub_that_fails_is_said(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_args: object, **_options: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(InteropError, match=said):
        import_released("somebody/some-vectors:a")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_saved_and_loaded_it_is_the_same_to_the_last_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write(tmp_path / "r", make(), dtype)
    axis = torch.load(folder / "assistant_axis.pt")
    value = {"axis": axis, "role_mean": axis, "metadata": {"note": "naïve ☂"}, "n": 4}
    torch.save(value, folder / "assistant_axis.pt")
    found = import_released(folder)
    found.save(tmp_path / "ours")
    assert sorted(p.name for p in (tmp_path / "ours").iterdir()) == ["released.json", "released.safetensors"]
    again = Released.load(tmp_path / "ours")
    assert same_release(again, found) and again.source == str(folder)
    assert same_release(import_source(tmp_path / "ours"), found)
    found.save(tmp_path / "ours")
    assert same_release(Released.load(tmp_path / "ours"), found)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = import_released(write(tmp_path / "r", make()))
    found.save(tmp_path / "ours")

    def full(_path: Path, _value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("personascope.interop._released.write_record", full)
    with pytest.raises(StoreError, match="No space left"):
        replace(found, metadata={"new": True}).save(tmp_path / "ours")
    assert Released.load(tmp_path / "ours").metadata == {}
    with pytest.raises(StoreError, match="No space left"):
        found.save(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "r"]


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    found = import_released(write(tmp_path / "r", make()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        found.save(tmp_path / "mine")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        export_released(found, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_damaged_save_is_refused(tmp_path: Path) -> None:
    import_released(write(tmp_path / "r", make())).save(tmp_path / "ours")
    tensors, record = tmp_path / "ours/released.safetensors", tmp_path / "ours/released.json"
    data, text = bytearray(tensors.read_bytes()), record.read_text()
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(StoreError, match=r"is not the file that released\.json was written with"):
        Released.load(tmp_path / "ours")
    tensors.write_bytes(data[:100])
    with pytest.raises(StoreError, match=r"released\.safetensors cannot be read"):
        Released.load(tmp_path / "ours")
    record.write_text(json.dumps(json.loads(text) | {"format": 9}))
    with pytest.raises(StoreError, match="format 9"):
        Released.load(tmp_path / "ours")
    record.write_text(json.dumps(json.loads(text) | {"traits": "wry"}))
    with pytest.raises(StoreError, match=r"'traits' is 'wry'"):
        Released.load(tmp_path / "ours")
    record.write_text(json.dumps(json.loads(text) | {"source": "elsewhere"}))
    with pytest.raises(StoreError, match=r"released\.json was changed since it was written"):
        Released.load(tmp_path / "ours")


def test_exported_and_imported_again_it_is_the_same(tmp_path: Path) -> None:
    made = make()
    folder = write(tmp_path / "r", made)
    value = {"axis": made.axis.half(), "role_mean": made.axis.half(), "metadata": {"model": "a/b"}}
    torch.save(value, folder / "assistant_axis.pt")
    value = {"vector": made.roles["bard"].float(), "type": "pos_3", "role": "bard"}
    torch.save(value, folder / "role_vectors/bard.pt")
    value = {"vector": made.traits["wry"].float(), "type": "contrast", "trait": "wry"}
    torch.save(value, folder / "trait_vectors/wry.pt")
    found = import_released(folder)
    export_released(found, tmp_path / "out")
    assert same_release(import_released(tmp_path / "out"), found)


def test_directions_point_from_the_default(tmp_path: Path) -> None:
    made = make()
    found = import_released(write(tmp_path / "r", made, torch.float32)).directions()
    assert set(found) == {"axis", *(f"role/{n}" for n in ROLES), *(f"trait/{n}" for n in TRAITS)}
    assert all(value.dtype == np.float32 and value.shape == (N_LAYERS, D) for value in found.values())
    np.testing.assert_allclose(found["role/ghost"], made.roles["ghost"] - made.default, atol=1e-4)
    np.testing.assert_allclose(found["trait/wry"], made.traits["wry"], atol=1e-6)
    mean = np.mean([found[f"role/{name}"] for name in ROLES], axis=0)
    np.testing.assert_allclose(found["axis"], -mean, atol=1e-4)
    alone = Released(made.axis.float(), role_vectors={"bard": made.roles["bard"].float()})
    assert set(alone.directions()) == {"axis"}


def test_the_axis_is_steered_along_toward_the_assistant(tmp_path: Path) -> None:
    made = make()
    found = import_released(write(tmp_path / "r", made))
    plan = found.axis_plan(3, 0.25, norm=40.0)
    (op,) = plan.ops
    assert isinstance(op, Steer) and op.layer == 3 and op.amount == 10.0
    unit = found.axis[3].double() / found.axis[3].double().norm()
    np.testing.assert_allclose(op.direction, unit, atol=1e-6)
    both = found.axis_plan((2, 4), -2.0, norm={2: 1.0, 4: 3.0}, tokens="response")
    assert [(o.layer, o.amount, o.tokens) for o in both.ops] == [(2, -2.0, "response"), (4, -6.0, "response")]
    assert found.axis_plan(1, 5.0).ops[0].amount == 5.0
    for layers, norm, said in (
        (6, 1.0, "no layer 6"),
        ((2,), {3: 1.0}, "no norm for layer 2"),
        ((), 1.0, "no layer"),
    ):
        with pytest.raises(InteropError, match=said):
            found.axis_plan(layers, 0.1, norm=norm)
