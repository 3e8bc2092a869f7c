"""Named directions (axis, components, roles, files), controls, norms, and steering plans."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
