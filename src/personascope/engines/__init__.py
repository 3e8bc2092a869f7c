"""Engines: whatever turns requests into completions with pooled activations."""

from personascope.engines._contract import (
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
from personascope.engines._load import ENGINES, LocalEngine, bulk_engine, load_engine, native_dtype
from personascope.engines._ray import RayEngine
from personascope.engines._transformers import Follower, TransformersEngine
from personascope.engines._vllm import ProbeSet, ServeCommand, Spool, serve_command

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
    "Probe",
    "ProbeSet",
    "RayEngine",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "ServeCommand",
    "Spool",
    "TransformersEngine",
    "TurnActivations",
    "Watch",
    "bulk_engine",
    "load_engine",
    "native_dtype",
    "request_seed",
    "serve_command",
]
