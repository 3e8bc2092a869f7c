"""Calibration: norms, thresholds, and the sweep that finds a cap."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
