"""Engines, which turn requests into completions with pooled activations."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
