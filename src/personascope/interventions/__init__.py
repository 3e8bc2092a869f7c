"""Interventions on the residual stream: steer, ablate, cap; the Plan that gathers them; their math."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
