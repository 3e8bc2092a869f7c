from ._engine import TransformersEngine
from ._follow import Follower

__all__ = ["Follower", "TransformersEngine"]
