"""Text quality by form alone: loops, garble, scripts, languages."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
