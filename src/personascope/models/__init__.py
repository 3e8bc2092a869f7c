"""Models: finding one, loading it, and its layer stack."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
