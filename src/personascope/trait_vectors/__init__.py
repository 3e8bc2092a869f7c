"""Traits: both poles of each over the same questions, judged, and kept by their difference."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
