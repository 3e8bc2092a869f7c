"""Which messages move a model: regression on embeddings, and kinds of messages."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
