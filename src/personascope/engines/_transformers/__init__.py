"""The Transformers engine: any causal model of Transformers, on any device that it runs on."""

from personascope.engines._transformers._engine import TransformersEngine
from personascope.engines._transformers._follow import Follower

__all__ = ["Follower", "TransformersEngine"]
