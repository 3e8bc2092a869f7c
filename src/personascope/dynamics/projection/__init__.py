"""Projecting the turns of conversations that exist already."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
