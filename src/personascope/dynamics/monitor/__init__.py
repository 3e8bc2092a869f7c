"""Drift monitors: alarm rules, baselines, calibration, and a streamer that feeds a monitor."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
