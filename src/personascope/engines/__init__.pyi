from ._contract import (
    Capture,
    Completion,
    Engine,
    EngineInfo,
    FinishReason,
    Gate,
    Probe,
    Request,
    Sampling,
    Scored,
    ScoreRequest,
    TurnActivations,
    Watch,
    request_seed,
)
from ._load import LocalEngine, load_engine, native_dtype
from ._names import ENGINES, bulk_engine
from ._ray import RayEngine
from ._transformers import Follower, TransformersEngine
from ._vllm import PlanStore, ProbeSet, ServeCommand, serve_command

__all__ = [
    "ENGINES",
    "Capture",
    "Completion",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "Follower",
    "Gate",
    "LocalEngine",
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
    "TurnActivations",
    "Watch",
    "bulk_engine",
    "load_engine",
    "native_dtype",
    "request_seed",
    "serve_command",
]
