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
from personascope.engines._transformers import TransformersEngine, load_engine, native_dtype

__all__ = [
    "Capture",
    "Completion",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "Probe",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "TransformersEngine",
    "TurnActivations",
    "load_engine",
    "native_dtype",
    "request_seed",
]
