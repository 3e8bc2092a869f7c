"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
