from ._engine import TransformersEngine
from ._follow import Follower
from ._verify import OPERATIONS, OperationCheck, verify_model

__all__ = ["OPERATIONS", "Follower", "OperationCheck", "TransformersEngine", "verify_model"]
