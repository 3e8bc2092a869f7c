from ._capability import ENGINE_TITLES
from ._capability_table import CAPABILITIES
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
from ._gate import Alarm, AlarmState, DeclaredWatch, Gate, GateWatch
from ._http._access import Access, log_to_stderr
from ._http._answers import Handler, ShuttingDownError, answered, failure, firing
from ._http._book import INLINE, PlanBook, fits
from ._http._chosen import choose
from ._http._errors import StatusError, problem
from ._http._field import FieldGuard, read_field
from ._http._guard import Guard
from ._http._metrics import Metrics
from ._http._openapi import (
    ERROR_SCHEMA,
    REPLY_SCHEMA,
    REQUEST_SCHEMA,
    map_paths,
    operation,
    store_paths,
)
from ._http._policy import Policy, Rules, open_policy, read_policy
from ._http._store_routes import UPLOAD_LIMIT, StoreHost, store_routes
from ._http._uploads import read_json
from ._http._watch import RequestWatch, watch_of
from ._load import LocalEngine, load_engine
from ._local import native_dtype
from ._names import bulk_engine
from ._parts import THINKING_TOKENS, check_tokens, longest_reply, sampling_record, turn_spans
from ._transformers import (
    LiveBatch,
    LiveEnd,
    LiveRequest,
    LiveTokens,
    OperationCheck,
    TransformersEngine,
    verify_model,
)
from ._vllm import PlanStore, ProbeSet, ServeCommand, ServerOptions, serve_command

__all__ = [
    "CAPABILITIES",
    "ENGINE_TITLES",
    "ERROR_SCHEMA",
    "INLINE",
    "REPLY_SCHEMA",
    "REQUEST_SCHEMA",
    "THINKING_TOKENS",
    "UPLOAD_LIMIT",
    "Access",
    "Alarm",
    "AlarmState",
    "Capture",
    "Completion",
    "DeclaredWatch",
    "Engine",
    "EngineInfo",
    "FieldGuard",
    "Gate",
    "GateWatch",
    "Guard",
    "Handler",
    "LiveBatch",
    "LiveEnd",
    "LiveRequest",
    "LiveTokens",
    "LocalEngine",
    "Metrics",
    "OperationCheck",
    "PlanBook",
    "PlanStore",
    "Policy",
    "Probe",
    "ProbeSet",
    "Request",
    "RequestWatch",
    "Rules",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "ServeCommand",
    "ServerOptions",
    "ShuttingDownError",
    "StatusError",
    "StoreHost",
    "TransformersEngine",
    "TriggeredPlan",
    "TurnActivations",
    "Watch",
    "answered",
    "bulk_engine",
    "check_tokens",
    "choose",
    "failure",
    "firing",
    "fits",
    "load_engine",
    "log_to_stderr",
    "longest_reply",
    "map_paths",
    "native_dtype",
    "open_policy",
    "operation",
    "problem",
    "read_field",
    "read_json",
    "read_policy",
    "request_seed",
    "sampling_record",
    "serve_command",
    "store_paths",
    "store_routes",
    "turn_spans",
    "verify_model",
    "watch_of",
]
