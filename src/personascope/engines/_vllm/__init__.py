"""vLLM: the engine, and the plugin inside it."""

from personascope.engines._vllm._engine import VLLMEngine, load_vllm_engine
from personascope.engines._vllm._version import vllm_version

__all__ = ["VLLMEngine", "load_vllm_engine", "vllm_version"]
