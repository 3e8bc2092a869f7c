"""Load a model by name into an engine."""

from __future__ import annotations

from typing import Any

from personascope.chat import ChatOptions
from personascope.engines._local import load_local
from personascope.engines._names import bulk_engine
from personascope.engines._ray import RayEngine
from personascope.engines._texts import refuse_options_of_transcript
from personascope.engines._transformers import TransformersEngine
from personascope.engines._vllm import VLLMEngine

# vLLM and Ray themselves are imported only when such an engine is started.
LocalEngine = TransformersEngine | VLLMEngine | RayEngine


def load_engine(
    name: str,
    *,
    engine: str = "transformers",
    dtype: str = "auto",
    device: str | None = None,
    transcript: bool = False,
    workers: int = 1,
    address: str | None = None,
    chat_options: ChatOptions | None = None,
    **options: Any,
) -> LocalEngine:
    """Load a model by name into an engine.

    Args:
        name: Hub id, folder, GGUF file or embedded name, as ``personascope.models.resolve`` takes it.
        engine: "transformers", "vllm", or "auto" for vLLM if it is installed.
        dtype: "auto" (``native_dtype``), "bfloat16", "float32" or "float16".
        device: Device, as in ``personascope.models.load``; not for vLLM, which uses the one it was built for.
        transcript: Whether to write conversations as a plain transcript ("User: ...", "Assistant: ..."), for
            base models, instead of with a chat template.
        workers: Number of Ray workers, if more than one; each loads the model, and they share the requests.
        chat_options: Thinking, date, and values of the chat template's variables.
        address: Ray cluster of the workers, such as "auto" or "ray://host:10001"; this machine if not given.
        options: Further options. The Transformers engine takes ``max_batch``, ``prefill_tokens`` and those
            of ``personascope.models.load``; vLLM takes those of `VLLMEngine`. Workers take
            ``gpus_per_worker`` and ``log_to_driver`` of `RayEngine`, and those of the engine inside.

    Raises:
        UsageError: If there is no such engine, or it has no such option.
        ChatError: If the chat template has no such variable, or thinking is requested and the model has none.
        EngineError: If vLLM or Ray is not installed or cannot be started.
        ModelError: If the model cannot be loaded.
    """
    if transcript and chat_options is not None:
        refuse_options_of_transcript(name, chat_options)
    if workers != 1 or address is not None:
        # The workers resolve the dtype "auto", which depends on their hardware.
        spread = RayEngine(
            name,
            engine=bulk_engine(engine),
            dtype=dtype,
            device=device,
            workers=workers,
            address=address,
            chat_options=chat_options,
            **options,
        )
        return spread.with_transcript() if transcript else spread
    return load_local(
        name,
        engine=engine,
        dtype=dtype,
        device=device,
        transcript=transcript,
        chat_options=chat_options,
        **options,
    )
