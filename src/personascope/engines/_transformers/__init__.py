"""The Transformers engine: any causal model of Transformers, on any device that it runs on."""

from personascope.engines._transformers._engine import TransformersEngine

__all__ = ["TransformersEngine"]
