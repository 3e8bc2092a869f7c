"""Comparison of persona maps by the roles that they share: loadings, axes, dimensionality, geometry."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
