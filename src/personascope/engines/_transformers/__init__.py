"""The Transformers engine: any causal model of Transformers, on any device that it runs on."""

from personascope.engines._transformers._engine import TransformersEngine, load_engine, native_dtype

__all__ = ["TransformersEngine", "load_engine", "native_dtype"]
