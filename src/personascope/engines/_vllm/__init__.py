"""vLLM: the engine, and the plugin inside it."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
