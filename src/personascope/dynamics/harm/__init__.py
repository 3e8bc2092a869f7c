"""Drift and harm: whether a first reply far from the Assistant foretells harm in the next."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
