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
from ._parts import SELECTIONS, THINKING_TOKENS, check_tokens, longest_reply, sampling_record, turn_spans
from ._ray import RayEngine
from ._transformers import OperationCheck, TransformersEngine, verify_model
from ._vllm import PlanStore, ProbeSet, ServeCommand, serve_command

__all__ = [
    "CAPABILITIES",
    "ENGINE_TITLES",
    "SELECTIONS",
    "THINKING_TOKENS",
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
