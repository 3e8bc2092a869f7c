"""Drift monitors: rules of alarm, baselines, calibration, and a streamer that feeds one."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
