"""Making a persona map: the design of the rollouts, the run, and an estimate of its cost."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
