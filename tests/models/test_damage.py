"""Files that are damaged or of a kind that cannot be read: every one is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from personascope.chat import ChatFormat
from personascope.errors import ModelError, PersonascopeError, UsageError
from personascope.models import load, open_files, resolve
from tiny import save_tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("whole") / "llama")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, **changes: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    tensors = {
        **safetensors.torch.load_file(file),
        **{key.replace("__", "."): v for key, v in changes.items()},
    }
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "no json"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": 5}'),
        ("config.json", '{"model_type": "llama", "hidden_size": "wide"}'),
        ("config.json", '{"model_type": "llama", "num_attention_heads": 0}'),
        ("config.json", '{"model_type": "no-such-model"}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "[1, 2]"),
        ("tokenizer.json", '{"model": null}'),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"tokenizer_class": 7}'),
        ("generation_config.json", "[]"),
    ],
)
def test_damaged_files_are_an_error_that_names_the_model(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    for read in (lambda: load(str(folder), device="cpu"), lambda: open_files(str(folder))):
        try:
            read()
        except PersonascopeError as error:
            assert str(folder) in error.message or "Llama" in error.message
            assert error.hint
        else:
            # What Transformers can do without is left out.
            assert name == "generation_config.json" or (name, text) in [
                ("config.json", '{"model_type": "llama", "num_attention_heads": 0}')
            ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named_before_anything_is_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for device in ("cuda", "cuda:1", "warp"):
        with pytest.raises(UsageError, match=f"the device '{device}' cannot be used") as caught:
            load(str(folder), device=device)
        assert "--device cpu" in caught.value.hint


def test_a_weight_that_is_nan_is_named(folder: Path) -> None:
    name = "model.layers.2.mlp.up_proj.weight"
    weight = safetensors.torch.load_file(folder / "model.safetensors")[name]
    weight[3, 4] = torch.nan
    edit_weights(folder, **{name: weight})
    with pytest.raises(ModelError, match=rf"{name} holds NaN or infinity in torch\.float32"):
        load(str(folder), device="cpu", dtype="float32")


def test_activations_that_overflow_name_the_dtype(folder: Path) -> None:
    name = "model.layers.2.mlp.down_proj.weight"
    edit_weights(folder, **{name: torch.full((48, 96), 6e4)})
    with pytest.raises(ModelError, match="not finite in float16") as caught:
        load(str(folder), device="cpu", dtype="float16")
    assert "bfloat16" in caught.value.hint


def test_tensors_without_a_place_in_the_model_are_refused(folder: Path) -> None:
    edit_weights(folder, **{"model.layers.1.mlp.up_proj.bias": torch.zeros(96)})
    with pytest.raises(ModelError, match=r"no place for, among them model\.layers\.1\.mlp\.up_proj\.bias"):
        load(str(folder), device="cpu")


def test_a_part_that_the_model_leaves_out_as_a_whole_is_no_fault(folder: Path) -> None:
    edit_weights(folder, **{"model.layers.5.draft.weight": torch.zeros(4), "vision.weight": torch.zeros(4)})
    assert load(str(folder), device="cpu").n_layers == 5


def test_weights_quantised_in_a_way_that_cannot_be_loaded_name_it(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    with pytest.raises(ModelError, match="quantised by gptq, which cannot be loaded here"):
        load(str(folder), device="cpu")


def test_of_two_tokenizers_the_one_with_a_chat_template_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MistralCommonBackend:
        chat_template = None

    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: MistralCommonBackend()
    )
    (folder / "tekken.json").write_text("{}")
    assert isinstance(load(str(folder), device="cpu").chat, ChatFormat)
    assert isinstance(open_files(str(folder)).chat, ChatFormat)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"tekken\.json alone"):
        load(str(folder), device="cpu")


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    """A rank-2 adapter of one projection, as peft lays it out."""
    target = tmp_path / "adapter"
    target.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(whole),
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["up_proj"],
        "layers_to_transform": [1],
    }
    (target / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    stem = "base_model.model.model.layers.1.mlp.up_proj"
    safetensors.torch.save_file(
        {
            f"{stem}.lora_A.weight": torch.randn(2, 48, generator=generator),
            f"{stem}.lora_B.weight": torch.randn(96, 2, generator=generator),
        },
        target / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    return target


def test_an_adapter_is_its_base_with_the_adapter_merged_in(adapter: Path, whole: Path) -> None:
    pytest.importorskip("peft")
    loaded = load(str(adapter), device="cpu", dtype="float32")
    base = load(str(whole), device="cpu", dtype="float32")
    assert loaded.model_id == str(adapter)
    assert loaded.revision.endswith(f"+{base.revision}")
    assert isinstance(loaded.chat, ChatFormat)
    parts = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    change = next(w for k, w in parts.items() if "_B" in k) @ next(w for k, w in parts.items() if "_A" in k)
    mine = dict(loaded.model.named_parameters())
    for name, weight in base.model.named_parameters():
        moved = 2 * change if name == "model.layers.1.mlp.up_proj.weight" else 0.0
        torch.testing.assert_close(mine[name].data, weight.data + moved)


def test_an_adapter_says_what_it_lacks(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(adapter)).kind == "adapter"
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ModelError, match="peft is not installed") as caught:
        load(str(adapter), device="cpu")
    assert "personascope[peft]" in caught.value.hint
    with pytest.raises(ModelError, match="is an adapter, which this engine cannot put on its model"):
        open_files(str(adapter))
    edit(adapter / "adapter_config.json", base_model_name_or_path="/no/such/model")
    with pytest.raises(ModelError, match="there is no model '/no/such/model'"):
        load(str(adapter), device="cpu")
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="names no base model"):
        load(str(adapter), device="cpu")
