"""Conversations with a model: scenarios, auditors who play the user, and their driver."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
