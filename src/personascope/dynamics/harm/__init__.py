"""Drift and harm: whether a first reply far from the Assistant predicts harm in the second."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
