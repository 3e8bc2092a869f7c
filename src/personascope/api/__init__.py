"""The Python interface, which notebooks use and the command line calls.

``MappedModel.open`` opens a run folder. Every function that acts on the model takes the result, checks its
arguments before the model is loaded, writes into the run folder, and returns what the command prints.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
