"""Where conversations go: trajectories by domain, contrasts, and replays side by side."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
