"""Judges, which score how far a response is in its role or label it by a rubric, alongside generation."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
