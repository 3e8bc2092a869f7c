from ._capability_table import CAPABILITIES, ENGINE_TITLES
from ._contract import (
    Capture,
    Completion,
    Engine,
    EngineInfo,
    Gate,
    Probe,
    Request,
    Sampling,
    Scored,
    ScoreRequest,
    TriggeredPlan,
    TurnActivations,
    Watch,
    request_seed,
)
from ._load import LocalEngine, load_engine
from ._local import native_dtype
from ._ray import RayEngine
from ._transformers import OperationCheck, TransformersEngine, verify_model
from ._vllm import PlanStore, ProbeSet, ServeCommand, serve_command

__all__ = [
    "CAPABILITIES",
    "ENGINE_TITLES",
    "Capture",
    "Completion",
    "Engine",
    "EngineInfo",
    "Gate",
    "LocalEngine",
    "OperationCheck",
    "PlanStore",
    "Probe",
    "ProbeSet",
    "RayEngine",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "ServeCommand",
    "TransformersEngine",
    "TriggeredPlan",
    "TurnActivations",
    "Watch",
    "load_engine",
    "native_dtype",
    "request_seed",
    "serve_command",
    "verify_model",
]
