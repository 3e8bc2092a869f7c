from ._engine import TransformersEngine
from ._live import LiveBatch, LiveEnd, LiveRequest, LiveTokens
from ._verify import OperationCheck, verify_model

__all__ = [
    "LiveBatch",
    "LiveEnd",
    "LiveRequest",
    "LiveTokens",
    "OperationCheck",
    "TransformersEngine",
    "verify_model",
]
