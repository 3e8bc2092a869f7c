"""Loading models from folders and from a hub cache."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from personascope.chat import ChatFormat
from personascope.errors import ModelError, UsageError
from personascope.models import load, resolve
from tiny import load_tiny, save_tiny, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Path:
    """A cache as the hub's client lays it out, with one repository in it."""
    repository = tmp_path / "models--org--tiny"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path


def test_a_folder_is_loaded_whole(folder: Path) -> None:
    loaded = load(str(folder), dtype="float32")
    assert loaded.source.kind == "folder"
    assert loaded.model_id == str(folder)
    assert (loaded.n_layers, loaded.d_model, loaded.dtype) == (5, 48, "float32")
    assert len(loaded.revision) == 64
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert isinstance(loaded.chat, ChatFormat)
    expected = load_tiny("llama")
    ids = torch.tensor([[5, 9, 11]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(input_ids=ids).logits, expected.model(input_ids=ids).logits)
    assert loaded.chat.digest == expected.chat.digest
    assert loaded.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_bfloat16_is_the_default(folder: Path) -> None:
    assert load(resolve(str(folder)), device="cpu").dtype == "bfloat16"


def test_a_fine_tune_has_another_revision(folder: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(folder, tuned)
    assert resolve(str(tuned)).revision == resolve(str(folder)).revision
    weights = bytearray((tuned / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (tuned / "model.safetensors").write_bytes(weights)
    assert resolve(str(tuned)).revision != resolve(str(folder)).revision


def test_a_hub_id_is_found_in_the_cache_with_its_commit(hub: Path) -> None:
    source = resolve("org/tiny", cache_dir=hub)
    assert (source.kind, source.revision) == ("hub", COMMIT)
    loaded = load(source, dtype="float32", device="cpu")
    assert (loaded.model_id, loaded.revision, loaded.n_layers) == ("org/tiny", COMMIT, 5)


def test_everything_that_ends_a_response_is_collected(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "ends"
    shutil.copytree(folder, target)
    generation = target / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), "eos_token_id": [17, 18]}))
    tokenizer = tiny_tokenizer("llama3")
    ids = tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert load(str(target), device="cpu").eos_token_ids == {17, 18, *ids}


def test_a_base_model_has_no_chat_format() -> None:
    loaded = load_tiny("gpt2")
    assert loaded.chat is None
    assert loaded.eos_token_ids == {loaded.tokenizer.eos_token_id}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/absent", "org/absent is not in the local cache"),
        ("nothing", "there is no model 'nothing'"),
        ("absent.gguf", "there is no file absent.gguf"),
        ("a/b/c", "there is no model 'a/b/c'"),
    ],
)
def test_names_of_nothing_are_named(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        resolve(name, cache_dir=tmp_path)
    assert caught.value.hint


def test_an_absent_revision_is_named(hub: Path) -> None:
    with pytest.raises(ModelError, match="org/tiny at revision 'v9'"):
        resolve("org/tiny", revision="v9", cache_dir=hub)


def test_a_folder_has_no_revision(folder: Path) -> None:
    with pytest.raises(ModelError, match="not a hub repository"):
        resolve(str(folder), revision="main")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))


def test_weights_that_would_be_unpickled_are_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "pickled"
    shutil.copytree(folder, target)
    (target / "model.safetensors").unlink()
    torch.save({}, target / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(str(target), device="cpu")


def test_damaged_weights_are_reported(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "cut"
    shutil.copytree(folder, target)
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(str(target), device="cpu")


def test_absent_tensors_are_not_made_up(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "lacking"
    shutil.copytree(folder, target)
    tensors = safetensors.torch.load_file(target / "model.safetensors")
    del tensors["model.layers.3.mlp.up_proj.weight"]
    safetensors.torch.save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors .* model\.layers\.3\.mlp\.up_proj\.weight"):
        load(str(target), device="cpu")


def test_a_models_own_code_is_not_run_unless_asked_for(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "remote"
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
    }
    (target / "config.json").write_text(json.dumps(config))
    (target / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ModelError, match="its own code") as caught:
        load(str(target), device="cpu")
    assert "trust_remote_code" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_arguments_that_contradict_each_other_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="device and device_map"):
        load(str(folder), device="cpu", device_map="auto")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        load(str(folder), dtype="int8")  # type: ignore[arg-type]


def test_attention_and_device_map_are_passed_on(folder: Path) -> None:
    loaded = load(str(folder), dtype="float32", device_map={"": "cpu"}, attn_implementation="eager")
    assert loaded.model.config._attn_implementation == "eager"
    ids = torch.tensor([[5, 9, 11]])
    with torch.inference_mode():
        hidden = loaded.stack.backbone(input_ids=ids).last_hidden_state
        assert torch.equal(loaded.stack.logits(hidden), loaded.model(input_ids=ids).logits)
