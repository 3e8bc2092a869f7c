"""User messages that precede drift: regression on message embeddings, and clusters of messages."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
