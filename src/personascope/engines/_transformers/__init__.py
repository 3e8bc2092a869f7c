"""The Transformers engine, for any causal model of Transformers on any device."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
