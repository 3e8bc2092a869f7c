"""Simulated conversations: scenarios, auditors that play the user, and the driver."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
