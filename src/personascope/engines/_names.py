"""The engines by name, before any of them is imported."""

from __future__ import annotations

import os

from personascope.engines._vllm import vllm_version
from personascope.errors import UsageError

ENGINES = ("auto", "transformers", "vllm")

DEFAULT = "PERSONASCOPE_ENGINE"
"""Environment variable: what "auto" means."""


def bulk_engine(name: str = "auto") -> str:
    """Return the engine for work of many requests: vLLM where it is installed, unless one is named.

    Raises:
        UsageError: If there is no such engine.
    """
    if name == "auto":
        name = os.environ.get(DEFAULT, "auto")
    if name not in ENGINES:
        raise UsageError(f"there is no engine {name!r}", hint=f"give one of {', '.join(ENGINES)}")
    if name == "auto":
        return "vllm" if vllm_version() else "transformers"
    return name
