"""Engines: whatever turns requests into completions with pooled activations."""

from personascope.engines._contract import (
    Capture,
    Completion,
    Engine,
    EngineInfo,
    FinishReason,
    Probe,
    Request,
    Sampling,
    Scored,
    ScoreRequest,
    TurnActivations,
    request_seed,
)
from personascope.engines._load import ENGINES, LocalEngine, bulk_engine, load_engine, native_dtype
from personascope.engines._ray import RayEngine
from personascope.engines._transformers import TransformersEngine

__all__ = [
    "ENGINES",
    "Capture",
    "Completion",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "LocalEngine",
    "Probe",
    "RayEngine",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "TransformersEngine",
    "TurnActivations",
    "bulk_engine",
    "load_engine",
    "native_dtype",
    "request_seed",
]
