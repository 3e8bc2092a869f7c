from ._capability_table import CAPABILITIES, ENGINE_TITLES
from ._contract import (
    Capture,
    Completion,
    Engine,
    EngineInfo,
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
from ._parts import THINKING_TOKENS, check_tokens, longest_reply, sampling_record, turn_spans
from ._transformers import OperationCheck, TransformersEngine, verify_model
from ._vllm import PlanStore, ProbeSet, ServeCommand, serve_command

__all__ = [
    "CAPABILITIES",
    "ENGINE_TITLES",
    "THINKING_TOKENS",
    "Capture",
    "Completion",
    "Engine",
    "EngineInfo",
    "LocalEngine",
    "OperationCheck",
    "PlanStore",
    "Probe",
    "ProbeSet",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "ServeCommand",
    "TransformersEngine",
    "TriggeredPlan",
    "TurnActivations",
    "Watch",
    "check_tokens",
    "load_engine",
    "longest_reply",
    "native_dtype",
    "request_seed",
    "sampling_record",
    "serve_command",
    "turn_spans",
    "verify_model",
]
