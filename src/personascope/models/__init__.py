"""Find and load models, and locate their layer stacks."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
