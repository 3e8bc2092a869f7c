"""Names of the engines, which can be resolved before any engine is imported."""

from __future__ import annotations

import os

from personascope.engines._vllm import vllm_version
from personascope.errors import UsageError

ENGINES = ("auto", "transformers", "vllm")

DEFAULT = "PERSONASCOPE_ENGINE"
"""Environment variable with the engine that "auto" stands for."""


def bulk_engine(name: str = "auto") -> str:
    """Return the name of an engine; "auto" is $PERSONASCOPE_ENGINE, or else vLLM if it is installed.

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
