"""Loading a model by name, with an engine around it."""

from __future__ import annotations

from typing import Any

import torch

from personascope.engines._names import bulk_engine
from personascope.engines._ray import RayEngine
from personascope.engines._transformers import TransformersEngine
from personascope.engines._vllm import VLLMEngine, load_vllm_engine
from personascope.errors import UsageError
from personascope.models import load

# Neither vLLM nor Ray is imported before an engine of theirs is started.
LocalEngine = TransformersEngine | VLLMEngine | RayEngine


def native_dtype(device: str | None = None) -> str:
    """Return bfloat16, or float32 on a CPU that has no bfloat16 arithmetic.

    Such a CPU converts every number of a bfloat16 product, and is several times slower than with
    float32 (benchmarks/dtype.md).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not device.startswith("cpu"):
        return "bfloat16"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def load_engine(
    name: str,
    *,
    engine: str = "transformers",
    dtype: str = "auto",
    device: str | None = None,
    transcript: bool = False,
    workers: int = 1,
    address: str | None = None,
    **options: Any,
) -> LocalEngine:
    """Load a model by name and put the engine around it.

    Args:
        name: Hub id, folder, GGUF file or embedded name, as ``personascope.models.resolve`` takes it.
        engine: "transformers", "vllm", or "auto" for vLLM where it is installed.
        dtype: "auto" (``native_dtype``), "bfloat16", "float32" or "float16".
        device: As ``personascope.models.load``; vLLM takes the device that it was built for.
        transcript: Write conversations as a plain transcript ("User: ...", "Assistant: ..."), as a base
            model needs it, instead of with a chat template.
        workers: With more than one, each loads the model and they share the requests, through Ray.
        address: Ray cluster on which workers run, such as "auto" or "ray://host:10001"; this machine if
            not given.
        options: For workers ``gpus_per_worker`` and ``log_to_driver`` of `RayEngine`, and those of the
            engine inside. For the Transformers engine ``max_batch`` and ``prefill_tokens``, and the rest for
            ``personascope.models.load``; for vLLM those of `VLLMEngine`.

    Raises:
        UsageError: If there is no such engine, or it has no such option.
        EngineError: If vLLM or Ray is not installed or cannot be started.
        ModelError: If the model cannot be loaded.
    """
    if workers != 1 or address is not None:
        # "auto" is left to the workers, whose hardware it depends on.
        spread = RayEngine(
            name,
            engine=bulk_engine(engine),
            dtype=dtype,
            device=device,
            workers=workers,
            address=address,
            **options,
        )
        return spread.with_transcript() if transcript else spread
    if dtype == "auto":
        dtype = native_dtype(device)
    if bulk_engine(engine) == "vllm":
        given = {key: value for key, value in options.items() if value is not None}
        for option in ("device_map", "attn_implementation"):
            if option in given:
                raise UsageError(
                    f"the vllm engine has no {option}", hint="leave it out, or take --engine transformers"
                )
        if device is not None:
            raise UsageError(
                f"the vllm engine does not take a device ({device!r})",
                hint="set CUDA_VISIBLE_DEVICES, or take --engine transformers",
            )
        return load_vllm_engine(name, dtype=dtype, transcript=transcript, **given)
    own = {key: options.pop(key) for key in ("max_batch", "prefill_tokens") if key in options}
    loaded = load(name, dtype=dtype, device=device, **options)  # pyright: ignore[reportArgumentType]
    made = TransformersEngine(loaded, **own)
    return made.with_transcript() if transcript else made
