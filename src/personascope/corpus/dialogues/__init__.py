"""Texts of simulated conversations: domains, user personas, topics, and case studies."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
