"""Role vectors, persona space, Assistant Axis, their uncertainty, and the PersonaMap."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
