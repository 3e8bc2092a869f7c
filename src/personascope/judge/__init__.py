"""Judges: who scores a response for its role or labels it by a rubric, beside generation."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
