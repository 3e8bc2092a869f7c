"""Loading a model by name, with an engine around it."""

from __future__ import annotations

from typing import Any

from personascope.chat import ChatOptions
from personascope.engines._local import load_local
from personascope.engines._names import bulk_engine
from personascope.engines._ray import RayEngine
from personascope.engines._transformers import TransformersEngine
from personascope.engines._vllm import VLLMEngine

# Neither vLLM nor Ray is imported before an engine of theirs is started.
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
    """Load a model by name and put the engine around it.

    Args:
        name: Hub id, folder, GGUF file or embedded name, as ``personascope.models.resolve`` takes it.
        engine: "transformers", "vllm", or "auto" for vLLM where it is installed.
        dtype: "auto" (``native_dtype``), "bfloat16", "float32" or "float16".
        device: As ``personascope.models.load``; vLLM takes the device that it was built for.
        transcript: Write conversations as a plain transcript ("User: ...", "Assistant: ..."), as a base
            model needs it, instead of with a chat template.
        workers: With more than one, each loads the model and they share the requests, through Ray.
        chat_options: Thinking, and values of the chat template's variables.
        address: Ray cluster on which workers run, such as "auto" or "ray://host:10001"; this machine if
            not given.
        options: For workers ``gpus_per_worker`` and ``log_to_driver`` of `RayEngine`, and those of the
            engine inside. For the Transformers engine ``max_batch`` and ``prefill_tokens``, and the rest for
            ``personascope.models.load``; for vLLM those of `VLLMEngine`.

    Raises:
        UsageError: If there is no such engine, or it has no such option.
        ChatError: If the chat template has no such variable, or no thinking that is asked for.
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
