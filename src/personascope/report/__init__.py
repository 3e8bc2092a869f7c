"""Output for people: the HTML report of a map, pages of conversations, and figures."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
