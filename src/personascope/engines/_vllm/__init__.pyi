from ._engine import VLLMEngine
from ._load import load_vllm_engine
from ._version import vllm_version
from .request._plan_store import PlanStore, ProbeSet
from .server._command import ServeCommand, serve_command
from .server._errors import StatusError, problem
from .server._field import OURS, FieldGuard, depth, read_field
from .server._server_options import ServerOptions

__all__ = [
    "OURS",
    "FieldGuard",
    "PlanStore",
    "ProbeSet",
    "ServeCommand",
    "ServerOptions",
    "StatusError",
    "VLLMEngine",
    "depth",
    "load_vllm_engine",
    "problem",
    "read_field",
    "serve_command",
    "vllm_version",
]
