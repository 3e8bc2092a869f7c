"""Intervene on the residual stream: steer, ablate, cap, and the Plan that combines them."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
