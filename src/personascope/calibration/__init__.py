"""Calibration of caps: floors from kept responses, their controls, and the sweep that recommends a cap."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
