"""GGUF files: conversion, its cache, and everything that can go wrong with one."""

import errno
import json
import logging
import os
import threading
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers

from personascope.errors import ModelError
from personascope.models import _convert, cache_root, check_conversion, load, resolve
from personascope.models._convert import convert_gguf
from tiny import tiny_models, tiny_tokenizer


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Order the rows of a query or key projection as GGUF files have them."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(path: Path, *, bos: bool | None = True) -> Path:
    """Write the tiny Llama model as a GGUF file of 32-bit floats."""
    model, tokenizer = tiny_models()["llama"](), tiny_tokenizer("llama3")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in backend["added_tokens"]}
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    tokens += [f"[unused{i}]" for i in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in backend["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if bos is not None:
        writer.add_add_bos_token(bos)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if "q_proj" in key:
            weight = permuted(weight, config.num_attention_heads)
        elif "k_proj" in key:
            weight = permuted(weight, config.num_key_value_heads)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the slow step; returns the folders that it wrote."""
    written: list[Path] = []

    def convert(paths: list[Path], target: Path) -> None:
        target.mkdir(parents=True)
        time.sleep(0.05)
        (target / "model.safetensors").write_bytes(b"".join(path.read_bytes() for path in paths) * 10)
        (target / "config.json").write_text("{}")
        written.append(target)

    monkeypatch.setattr(_convert, "_convert", convert)
    return written


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(range(256)))
    return path


def left_behind(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob(".tmp-*")]


def test_a_converted_model_computes_what_the_gguf_file_does(
    tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    source = resolve(str(tiny_gguf), cache_dir=tmp_path)
    assert source.kind == "gguf"
    with caplog.at_level(logging.INFO, "personascope"):
        loaded = load(source, dtype="float32", device="cpu")
    assert [record.message.split()[0] for record in caplog.records] == ["converting", "converted"]
    assert capfd.readouterr().err == ""
    assert loaded.revision == loaded.source.revision
    assert len(loaded.revision) == 64
    reference = tiny_models()["llama"]()
    for parameter in reference.parameters():
        parameter.data = parameter.data.bfloat16().float()
    ids = torch.tensor([[5, 9, 11, 40]])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(input_ids=ids).logits, reference(input_ids=ids).logits)
    # Base models are lost without the token that opens every text.
    assert loaded.tokenizer("hello").input_ids == tiny_tokenizer("llama3")("hello").input_ids
    chat = loaded.chat
    assert chat is not None
    assert chat.tokenizer.decode(sorted(chat.stop_token_ids)) == "<|end_of_text|><|eot_id|>"
    # The second time nothing is converted.
    with caplog.at_level(logging.INFO, "personascope"):
        caplog.clear()
        assert load(source, device="cpu").dtype == "bfloat16"
    assert not caplog.records
    (folder,) = (tmp_path / "gguf").iterdir()
    assert folder.name == loaded.revision
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    check_conversion(folder, full=True)
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("bos", [False, None])
def test_a_byte_level_vocabulary_starts_with_bos_only_if_the_file_says_so(
    bos: bool | None, tmp_path: Path
) -> None:
    assert not _convert._starts_with_bos(write_gguf(tmp_path / "tiny.gguf", bos=bos))


@pytest.mark.parametrize(("bos", "expected"), [(None, True), (True, True), (False, False)])
def test_a_sentencepiece_vocabulary_starts_with_bos_unless_the_file_says_not(
    bos: bool | None, expected: bool, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "head.gguf", "llama")
    writer.add_tokenizer_model("llama")
    if bos is not None:
        writer.add_add_bos_token(bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert _convert._starts_with_bos(tmp_path / "head.gguf") is expected


def test_a_file_is_converted_once_and_anew_on_demand(
    fake: Path, stand_in: list[Path], tmp_path: Path
) -> None:
    first = convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert convert_gguf([fake], cache_dir=tmp_path / "cache") == first
    assert len(stand_in) == 1
    assert convert_gguf([fake], cache_dir=tmp_path / "cache", reconvert=True) == first
    assert len(stand_in) == 2
    fake.write_bytes(b"GGUF another")
    assert convert_gguf([fake], cache_dir=tmp_path / "cache") != first


def test_parts_are_one_file(fake: Path, stand_in: list[Path], tmp_path: Path) -> None:
    whole = fake.read_bytes()
    parts = [tmp_path / "m.gguf.part00", tmp_path / "m.gguf.part01"]
    parts[0].write_bytes(whole[:100])
    parts[1].write_bytes(whole[100:])
    assert convert_gguf(parts, cache_dir=tmp_path / "c") == convert_gguf([fake], cache_dir=tmp_path / "c")
    assert len(stand_in) == 1


def test_the_parts_of_a_real_file_are_put_together(tiny_gguf: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.read_bytes()
    parts = [tmp_path / f"m.gguf.part{i}" for i in range(3)]
    for index, part in enumerate(parts):
        part.write_bytes(whole[index * 100_000 : (index + 1) * 100_000 if index < 2 else None])
    folder, _ = convert_gguf(parts, cache_dir=tmp_path / "cache")
    assert not list(folder.glob("*.gguf"))
    assert load(str(folder), device="cpu").n_layers == 5


def test_the_hash_of_a_file_is_taken_once(
    fake: Path, stand_in: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del stand_in
    first = convert_gguf([fake], cache_dir=tmp_path / "cache")

    def refuse(paths: list[Path]) -> str:
        raise AssertionError(paths)

    monkeypatch.setattr("personascope.models._cache.file_sha256", refuse)
    assert convert_gguf([fake], cache_dir=tmp_path / "cache") == first
    os.utime(fake, ns=(0, 0))
    with pytest.raises(AssertionError):
        convert_gguf([fake], cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "no manifest"])
def test_a_damaged_folder_is_named_and_mended(
    damage: str, fake: Path, stand_in: list[Path], tmp_path: Path
) -> None:
    folder, _ = convert_gguf([fake], cache_dir=tmp_path / "cache")
    weights, manifest = folder / "model.safetensors", folder / "personascope.json"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "remove":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors|personascope\.json") as caught:
        convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert "delete" in caught.value.hint and "anew" in caught.value.hint
    convert_gguf([fake], cache_dir=tmp_path / "cache", reconvert=True)
    assert len(stand_in) == 2


def test_a_changed_byte_is_found_by_the_full_check_only(
    fake: Path, stand_in: list[Path], tmp_path: Path
) -> None:
    del stand_in
    folder, _ = convert_gguf([fake], cache_dir=tmp_path / "cache")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    check_conversion(folder)
    with pytest.raises(ModelError, match=r"content of .*model\.safetensors has changed"):
        check_conversion(folder, full=True)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("I/O error: No space left on device")],
)
def test_a_full_disk_leaves_nothing_behind(
    error: Exception, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(_paths: list[Path], target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(_convert, "_convert", fill_up)
    with pytest.raises(ModelError, match="no space left under") as caught:
        convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert "PERSONASCOPE_CACHE" in caught.value.hint
    assert not list((tmp_path / "cache" / "gguf").iterdir())


def test_a_file_that_is_no_gguf_is_named(fake: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.gguf is no whole GGUF file"):
        convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache" / "gguf").iterdir())


def test_an_extra_that_is_not_installed_is_named(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(_paths: list[Path], _target: Path) -> None:
        raise ImportError("Please install gguf")

    monkeypatch.setattr(_convert, "_convert", without)
    with pytest.raises(ModelError, match="cannot be read") as caught:
        convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert "personascope[gguf]" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_named(fake: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cannot be written") as caught:
        convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert "PERSONASCOPE_CACHE" in caught.value.hint


def test_conversions_at_the_same_time_end_with_one_whole_folder(
    fake: Path, stand_in: list[Path], tmp_path: Path
) -> None:
    results: list[tuple[Path, str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(convert_gguf([fake], cache_dir=tmp_path / "cache")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1
    assert len(stand_in) > 1
    check_conversion(results[0][0], full=True)
    assert [path.name for path in (tmp_path / "cache" / "gguf").iterdir()] == [results[0][1]]


def test_what_killed_conversions_left_is_removed_after_a_day(
    fake: Path, stand_in: list[Path], tmp_path: Path
) -> None:
    del stand_in
    old, young = (tmp_path / "cache" / "gguf" / name for name in (".tmp-old", ".tmp-young"))
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (1, 1))
    convert_gguf([fake], cache_dir=tmp_path / "cache")
    assert not old.exists()
    assert young.exists()


def test_the_cache_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONASCOPE_CACHE", str(tmp_path / "named"))
    assert cache_root() == tmp_path / "named"
    assert cache_root(tmp_path) == tmp_path
    monkeypatch.delenv("PERSONASCOPE_CACHE")
    assert cache_root().name == "personascope"


def split(
    whole: Path, folder: Path, *, drop: str = "", extra: str = "", rope: np.ndarray | None = None
) -> Path:
    """Write a GGUF file again, in two parts as llama.cpp names them, or with another set of tensors."""
    reader = gguf.GGUFReader(whole)
    parts = 1 if drop or extra or rope is not None else 2
    folder.mkdir()
    limit = -(-len(reader.tensors) // parts) if parts > 1 else 0
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama", split_max_tensors=limit)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = field.types[0]
        part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, part)
    for tensor in reader.tensors:
        if tensor.name != drop:
            writer.add_tensor(tensor.name, np.array(tensor.data))
    if extra:
        writer.add_tensor(extra, np.ones((48, 7), np.float32))
    if rope is not None:
        writer.add_tensor("rope_freqs.weight", rope.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))[0]


def test_a_model_in_parts_is_read_whole_from_any_of_them(tiny_gguf: Path, tmp_path: Path) -> None:
    first = split(tiny_gguf, tmp_path / "parts")
    parts = sorted(first.parent.iterdir())
    assert [part.name for part in parts] == ["tiny-00001-of-00002.gguf", "tiny-00002-of-00002.gguf"]
    for part in parts:
        assert resolve(str(part)).paths == tuple(parts)
    loaded = load(resolve(str(parts[1]), cache_dir=tmp_path / "cache"), dtype="float32", device="cpu")
    reference = tiny_models()["llama"]()
    for parameter in reference.parameters():
        parameter.data = parameter.data.bfloat16().float()
    ids = torch.tensor([[5, 9, 11, 40]])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(input_ids=ids).logits, reference(input_ids=ids).logits)
    parts[1].unlink()
    with pytest.raises(ModelError, match=r"one of 2 parts, and tiny-00002-of-00002\.gguf is not beside it"):
        resolve(str(first))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drop": "blk.2.ffn_up.weight"}, r"lack 1 tensors of the model, among them model\.layers\.2\.mlp"),
        ({"extra": "blk.2.strange.weight"}, "numbers, and Transformers made a model of"),
        ({"rope": np.linspace(1, 3, 6)}, "scales its rotary frequencies by factors"),
    ],
)
def test_a_file_that_is_not_read_whole_is_refused_and_not_cached(
    change: dict, text: str, tiny_gguf: Path, tmp_path: Path
) -> None:
    file = split(tiny_gguf, tmp_path / "other", **change)
    for _ in range(2):
        with pytest.raises(ModelError, match=text):
            load(resolve(str(file), cache_dir=tmp_path / "cache"), device="cpu")
    assert not list((tmp_path / "cache" / "gguf").iterdir())


def test_the_rotary_factors_of_llama_3_are_kept(tiny_gguf: Path, tmp_path: Path) -> None:
    head_dim = 12
    config = transformers.LlamaConfig(
        hidden_size=48,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    )
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 10000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    file = split(tiny_gguf, tmp_path / "scaled", rope=plain / scaled.numpy())
    loaded = load(resolve(str(file), cache_dir=tmp_path / "cache"), device="cpu", dtype="float32")
    rope = loaded.model.config.rope_parameters
    assert (rope["rope_type"], rope["factor"]) == ("llama3", 32.0)
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, scaled)
