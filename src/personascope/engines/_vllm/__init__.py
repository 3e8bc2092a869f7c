"""The vLLM engine, and the plugin that runs inside vLLM."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
