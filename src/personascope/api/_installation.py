"""Checks of the installation, the model caches, the engines, and a model's correctness."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from personascope.engines import (
    CAPABILITIES,
    ENGINE_TITLES,
    OperationCheck,
    TransformersEngine,
    load_engine,
    native_dtype,
    verify_model,
)
from personascope.errors import PersonascopeError
from personascope.models import EMBEDDED, cache_root, check_conversion, resolve

PACKAGES = ("personascope", "torch", "transformers", "safetensors", "pyarrow", "gguf", "plotly")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check of the installation.

    Attributes:
        what: Checked item: a package, the hardware, the cache, or a model in it.
        found: What was found, such as a version.
        verdict: "ok", a detail, or the problem with a hint.
        broken: Whether the item must be repaired.
    """

    what: str
    found: str
    verdict: str
    broken: bool = False


def check_installation() -> tuple[Finding, ...]:
    """Check the packages, the hardware, the embedded models and every converted model."""
    root = cache_root()
    place = root
    while not place.exists():
        place = place.parent
    return (
        *map(_package, PACKAGES),
        Finding("python", platform.python_version(), "ok"),
        Finding("device", _device(), f"dtype {native_dtype()}"),
        Finding("cache", str(root), f"{shutil.disk_usage(place).free / 2**30:.1f} GiB free"),
        *map(_embedded, EMBEDDED),
        *(_conversion(record.parent) for record in sorted(root.glob("*/personascope.json"))),
    )


@dataclass(frozen=True, slots=True)
class EngineSupport:
    """Support of one capability by each engine.

    Attributes:
        capability: Name of the capability.
        levels: Title of an engine -> "yes", "no", "as inside", "untried" or "-" (docs/engines.md).
    """

    capability: str
    levels: Mapping[str, str]


def check_model(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    transcript: bool = False,
    trust_remote_code: bool = False,
) -> tuple[OperationCheck, ...]:
    """Compare every operation on a model with the model's own library.

    Args:
        name: Name of the model, as in `load_engine`.
        dtype: Dtype of the weights.
        device: Device to run on; the first GPU if there is one.
        transcript: Whether to write conversations as plain transcripts, for a base model.
        trust_remote_code: Whether to run code that comes with the model.

    Raises:
        ModelError: If the model cannot be loaded, or its architecture is not supported.
    """
    engine = load_engine(
        name, dtype=dtype, device=device, transcript=transcript, trust_remote_code=trust_remote_code
    )
    assert isinstance(engine, TransformersEngine)
    return tuple(verify_model(engine))


def engine_support() -> tuple[EngineSupport, ...]:
    """Return the support of every capability by each engine."""
    return tuple(
        EngineSupport(row.title, {title: row.support[key].level for key, title in ENGINE_TITLES.items()})
        for row in CAPABILITIES
    )


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name), "ok")
    except PackageNotFoundError:
        extra = "pip install 'personascope[gguf]'" if name == "gguf" else "missing"
        return Finding(name, "not installed", extra)


def _device() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"


def _embedded(name: str) -> Finding:
    try:
        resolve(name)
    except PersonascopeError as error:
        return Finding(name, "not installed", error.hint)
    return Finding(name, "installed", "ok")


def _conversion(folder: Path) -> Finding:
    name = folder.name[:16]
    try:
        check_conversion(folder, full=True)
    except PersonascopeError as error:
        return Finding("converted model", name, f"{error.message}; {error.hint}", broken=True)
    return Finding("converted model", name, "whole")
