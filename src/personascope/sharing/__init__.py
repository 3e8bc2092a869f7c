"""Maps, plans, monitors and releases as things to share: manifest, card, archive, hub."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
