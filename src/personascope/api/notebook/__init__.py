"""What a notebook types: load a model, map it or open its map; steer, cap, project and evaluate with both.

The names are those at the top of `personascope`. They rest on the functions of `personascope.api`, which the
commands call.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
