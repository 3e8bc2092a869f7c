"""Start vLLM with a model that is found by its name."""

from __future__ import annotations

from typing import Any

from personascope.engines._vllm._engine import VLLMEngine
from personascope.models import open_files


def load_vllm_engine(
    name: str,
    *,
    dtype: str = "bfloat16",
    transcript: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> VLLMEngine:
    """Find a model by name and start vLLM with it; see `personascope.engines.load_engine`."""
    files = open_files(name, trust_remote_code=trust_remote_code)
    if trust_remote_code:
        options["trust_remote_code"] = True
    engine = VLLMEngine(files, dtype=dtype, **options)
    return engine.with_transcript() if transcript else engine
