from ._engine import VLLMEngine
from ._load import load_vllm_engine
from ._version import vllm_version
from .request._plan_store import PlanStore, ProbeSet
from .server._command import ServeCommand, serve_command

__all__ = [
    "PlanStore",
    "ProbeSet",
    "ServeCommand",
    "VLLMEngine",
    "load_vllm_engine",
    "serve_command",
    "vllm_version",
]
