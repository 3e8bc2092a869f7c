from ._command import ServeCommand, serve_command
from ._engine import VLLMEngine, load_vllm_engine
from ._spool import ProbeSet, Spool
from ._version import vllm_version

__all__ = [
    "ProbeSet",
    "ServeCommand",
    "Spool",
    "VLLMEngine",
    "load_vllm_engine",
    "serve_command",
    "vllm_version",
]
