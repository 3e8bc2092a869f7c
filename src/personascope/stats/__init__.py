"""Intervals, paired tests, cluster bootstrap, ridge regression, conformal thresholds, slopes."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
