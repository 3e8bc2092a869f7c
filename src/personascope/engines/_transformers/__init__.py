"""The Transformers engine: any causal model of Transformers, on any device that it runs on."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
