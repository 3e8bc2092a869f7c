"""The server on the Transformers engine: an OpenAI-compatible API with plans and positions, and its page."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
