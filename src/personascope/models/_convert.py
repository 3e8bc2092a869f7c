"""Convert GGUF files, once each, into a folder of bf16 safetensors in the cache."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from personascope.errors import ModelError
from personascope.models._cache import cache_root, file_sha256, remembered_sha256
from personascope.models._gguf import MAGIC, GgufHead, count_numbers, join_parts, read_head, rope_scaling
from personascope.models._quiet import quiet_transformers
from personascope.models._read import check_cover

log = logging.getLogger(__name__)

MANIFEST = "personascope.json"
_STALE_AFTER = 24 * 3600.0
_HEAD_BYTES = 1 << 26


def convert_gguf(
    paths: Sequence[Path], *, cache_dir: Path | None = None, reconvert: bool = False
) -> tuple[Path, str]:
    """Return the converted folder of a GGUF file, converting the file if it is not in the cache.

    The folder is named after the file's SHA-256 and appears whole or not at all, also when several
    processes convert at once: the first to finish wins, and the others drop their results.

    Args:
        paths: GGUF file, or its parts in order.
        cache_dir: Cache folder instead of the default one.
        reconvert: Whether to delete the cached folder and convert anew.

    Returns:
        The folder, and the SHA-256 of the GGUF file in hex.

    Raises:
        ModelError: If the file is no GGUF file that Transformers can read, the cache cannot be
            written (disk full), or a cached folder is damaged.
    """
    root = cache_root(cache_dir)
    sha256 = remembered_sha256(paths, root)
    folder = root / "gguf" / sha256
    if reconvert and folder.exists():
        shutil.rmtree(folder)
    if folder.exists():
        check_conversion(folder)
        return folder, sha256
    started = time.monotonic()
    name = re.sub(r"\.part\d+$", "", paths[0].name)
    log.info("converting %s to safetensors in %s (once)", name, folder)
    work: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _drop_stale(folder.parent)
        work = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        # The de-quantizer's progress bar has no switch. Nothing else is lost, because errors are raised.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            _convert(paths, work / "model")
        _write_manifest(work / "model", name, sha256)
        try:
            (work / "model").rename(folder)
        except OSError:
            # Another process may have finished first. If not, the failure is real.
            if not folder.exists():
                raise
        check_conversion(folder)
    except ModelError:
        raise
    except Exception as error:
        raise _conversion_error(error, paths[0], root) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    log.info("converted %s in %.0f s", name, time.monotonic() - started)
    return folder, sha256


def check_conversion(folder: Path, *, full: bool = False) -> None:
    """Check a converted folder against the manifest that was written with it.

    Args:
        folder: Folder that `convert_gguf` returned.
        full: Whether to hash every file too, instead of comparing sizes only.

    Raises:
        ModelError: If a file is missing, of another size, or (with ``full``) of other content.
    """
    hint = f"delete {folder}: the next start converts the file anew"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files: dict[str, dict[str, Any]] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the converted model {folder} has no readable {MANIFEST}", hint=hint) from error
    for name, expected in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["size"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise ModelError(f"{path} {found}, {expected['size']} were written", hint=hint)
        if full and file_sha256([path]) != expected["sha256"]:
            raise ModelError(f"the content of {path} has changed since it was written", hint=hint)


def _convert(paths: Sequence[Path], target: Path) -> None:
    file = paths[0]
    if len(paths) > 1:
        file = target.parent / "assembled.gguf"
        _assemble(paths, file)
    head = read_head(file)
    place: dict[str, Any] = {"gguf_file": file.name}
    auto: Any = transformers.AutoModelForCausalLM
    model, info = auto.from_pretrained(file.parent, dtype=torch.bfloat16, output_loading_info=True, **place)
    # Transformers would initialise missing tensors and drop unknown ones, with a warning at most.
    check_cover(paths[0].name, [*info["missing_keys"], *info["mismatched_keys"]])
    _check_numbers(paths[0], head, model)
    _scale_rope(file, head, model.config)
    # The weights are plain now. With these attributes, saving fails, and loading would de-quantize again.
    config: Any = model.config
    for owner, name in ((model, "hf_quantizer"), (model, "is_quantized"), (config, "quantization_config")):
        if name in vars(owner):
            delattr(owner, name)
    model.save_pretrained(target)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, **place)
    for name, token in _special_tokens(file).items():
        # Transformers 5.0 takes the token that opens a text for the one that ends it.
        setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(token))
    if _starts_with_bos(file):
        tokenizer.add_bos_token = True
    tokenizer.save_pretrained(target)


def _assemble(paths: Sequence[Path], target: Path) -> None:
    """Join the parts of a GGUF file: parts as the format defines them, or pieces of a file that was cut."""
    with paths[1].open("rb") as second:
        cut_anywhere = second.read(4) != MAGIC
    if not cut_anywhere:
        join_parts(paths, target)
        return
    with target.open("wb") as whole:
        for part in paths:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)


def _check_numbers(file: Path, head: GgufHead, model: nn.Module) -> None:
    """Check that the file holds no more numbers than the model that was made from it.

    Raises:
        ModelError: If it does; the message names both counts.
    """
    in_file = count_numbers(head)
    # A tied head counts once on both sides.
    in_model = sum({weight.data_ptr(): weight.numel() for weight in model.state_dict().values()}.values())
    if in_file > in_model:
        raise ModelError(
            f"{file.name} holds {in_file:,} numbers, and Transformers made a model of {in_model:,} of them",
            hint="this Transformers does not know all tensors of the file; use the model's safetensors",
        )


def _scale_rope(file: Path, head: GgufHead, config: Any) -> None:
    """Write the rotary scaling, which the file stores as factors, into the config."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    base = float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10000.0)
    heads = getattr(config, "num_attention_heads", 1)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    scaling = rope_scaling(file, head, base, int(head_dim))
    if scaling is not None:
        config.rope_parameters = rope | {"rope_theta": base} | scaling


def _head(file: Path) -> bytes:
    """Return the start of a file with its metadata; the gguf package needs half a minute to parse it."""
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)


def _special_tokens(file: Path) -> dict[str, int]:
    """Return the ids of the tokens that open and end a text ("bos", "eos"), as far as the file has them."""
    head = _head(file)
    stored = {name: _metadata(head, f"tokenizer.ggml.{name}_token_id", kind=4) for name in ("bos", "eos")}
    return {name: struct.unpack("<I", value[:4])[0] for name, value in stored.items() if value is not None}


def _starts_with_bos(file: Path) -> bool:
    """Return whether plain text starts with bos, which Transformers does not read from GGUF files."""
    head = _head(file)
    asked = _metadata(head, "tokenizer.ggml.add_bos_token", kind=7)
    if asked is not None:
        return asked[0] != 0
    # The default for SentencePiece vocabularies, which GGUF files name after Llama.
    model = _metadata(head, "tokenizer.ggml.model", kind=8)
    return model is not None and model[: 8 + 5] == struct.pack("<Q", 5) + b"llama"


def _metadata(head: bytes, key: str, *, kind: int) -> bytes | None:
    """Return 64 bytes from the start of a metadata value, or None if there is none of that key and type."""
    entry = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind)
    at = head.find(entry)
    return None if at < 0 else head[at + len(entry) : at + len(entry) + 64]


def _write_manifest(folder: Path, source: str, sha256: str) -> None:
    manifest = {
        "source": source,
        "source_sha256": sha256,
        "versions": {name: version(name) for name in ("transformers", "torch", "safetensors", "gguf")},
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": file_sha256([path])}
            for path in sorted(folder.iterdir())
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _drop_stale(folder: Path) -> None:
    """Remove the temporary folders of killed conversions."""
    for path in folder.glob(".tmp-*"):
        if time.time() - path.stat().st_mtime > _STALE_AFTER:
            shutil.rmtree(path, ignore_errors=True)


def _conversion_error(error: Exception, file: Path, root: Path) -> ModelError:
    # The safetensors writer reports a full disk in the message only.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error) or "os error 28" in str(error):
        return ModelError(
            f"no space left under {root} for the conversion of {file.name}",
            hint="free some space, or point PERSONASCOPE_CACHE at a larger disk",
        )
    if isinstance(error, ImportError):
        return ModelError(f"{file.name} cannot be read: {error}", hint="pip install 'personascope[gguf]'")
    return ModelError(
        f"{file} cannot be converted: {type(error).__name__}: {error}",
        hint="check that it is a whole GGUF file of an architecture that Transformers knows",
    )
