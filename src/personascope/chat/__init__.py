"""Chat: messages, chat templates, and the token spans of each turn."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
