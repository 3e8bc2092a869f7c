"""The Ray engine, which spreads requests over several engines, each in an actor."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
