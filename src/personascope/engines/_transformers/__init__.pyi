from ._engine import TransformersEngine
from ._verify import OperationCheck, verify_model

__all__ = [
    "OperationCheck",
    "TransformersEngine",
    "verify_model",
]
