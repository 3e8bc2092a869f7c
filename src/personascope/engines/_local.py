"""Load a model into an engine of this process."""

from __future__ import annotations

from typing import Any

import torch

from personascope.chat import ChatOptions
from personascope.engines._capabilities import EngineKey, support, unsupported
from personascope.engines._names import bulk_engine
from personascope.engines._transformers import TransformersEngine
from personascope.engines._vllm import VLLMEngine, load_vllm_engine
from personascope.errors import UsageError
from personascope.models import load

_OPTIONS = {
    "device": "device",
    "device_map": "device_map",
    "attn_implementation": "attn_implementation",
    "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel",
    "data_parallel_size": "data_parallel",
    "speculative_config": "speculative_decoding",
}
"""Option of loading -> capability that it needs."""

_TRANSFORMERS_OPTIONS = frozenset(
    ("max_batch", "prefill_tokens", "device_map", "attn_implementation", "trust_remote_code", "reconvert")
)


def native_dtype(device: str | None = None) -> str:
    """Return "bfloat16", or "float32" on a CPU without bfloat16 arithmetic.

    Such a CPU converts every number of a bfloat16 product, which is several times slower than float32
    (benchmarks/dtype.md).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not device.startswith("cpu"):
        return "bfloat16"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def load_local(
    name: str,
    *,
    engine: str = "transformers",
    dtype: str = "auto",
    device: str | None = None,
    transcript: bool = False,
    chat_options: ChatOptions | None = None,
    **options: Any,
) -> TransformersEngine | VLLMEngine:
    """Load a model into an engine of this process; arguments and errors are those of `load_engine`."""
    if dtype == "auto":
        dtype = native_dtype(device)
    chosen: EngineKey = "vllm" if bulk_engine(engine) == "vllm" else "transformers"
    asked = {**options, "device": device}
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    for option, key in _OPTIONS.items():
        if option in given and support(chosen, key).level == "no":
            raise unsupported(chosen, key, f"{option}={given[option]!r} asks for", UsageError)
    if chosen == "vllm":
        made = load_vllm_engine(name, dtype=dtype, transcript=transcript, **given)
        return made if chat_options is None else made.with_chat(chat_options)
    unknown = sorted(set(options) - _TRANSFORMERS_OPTIONS)
    if unknown:
        raise UsageError(
            f"the transformers engine has no option {unknown[0]!r}",
            hint=f"options are {', '.join(sorted(_TRANSFORMERS_OPTIONS))}",
        )
    own = {key: options.pop(key) for key in ("max_batch", "prefill_tokens") if key in options}
    loaded = load(name, dtype=dtype, device=device, **options)  # pyright: ignore[reportArgumentType]
    made = TransformersEngine(loaded, **own)
    made = made.with_transcript() if transcript else made
    return made if chat_options is None else made.with_chat(chat_options)
