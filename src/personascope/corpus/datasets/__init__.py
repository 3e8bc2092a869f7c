"""What evaluations ask: the user's own files, or the built-in sets."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
