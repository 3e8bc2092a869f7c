"""vLLM: the engine, and the plugin inside it."""

from personascope.engines._vllm._command import ServeCommand, serve_command
from personascope.engines._vllm._engine import VLLMEngine, load_vllm_engine
from personascope.engines._vllm._spool import ProbeSet, Spool
from personascope.engines._vllm._version import vllm_version

__all__ = [
    "ProbeSet",
    "ServeCommand",
    "Spool",
    "VLLMEngine",
    "load_vllm_engine",
    "serve_command",
    "vllm_version",
]
