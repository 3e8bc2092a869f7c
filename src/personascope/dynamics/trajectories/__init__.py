"""Trajectories of conversations: means by domain, contrasts of domains, and comparison of replays."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
