"""Evaluations: role susceptibility, persona jailbreaks, self-description of base models, capability."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
