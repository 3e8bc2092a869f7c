from ._engine import VLLMEngine
from ._load import load_vllm_engine
from ._version import vllm_version
from .request._plan_store import PlanStore, ProbeSet
from .server._command import ServeCommand, serve_command
from .server._server_options import ServerOptions

__all__ = [
    "PlanStore",
    "ProbeSet",
    "ServeCommand",
    "ServerOptions",
    "VLLMEngine",
    "load_vllm_engine",
    "serve_command",
    "vllm_version",
]
