"""What a notebook types and what the command line calls: a mapped model, and what is done with it.

``MappedModel.open`` opens a run folder. Every function that acts on the model takes what it returns, checks
its arguments before the model is loaded, writes into the run folder, and returns what the command prints.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
