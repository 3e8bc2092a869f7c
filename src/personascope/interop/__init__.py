"""The files of others in and out: the authors' ``.pt`` files, control vectors, transcripts.

Nothing that is read is ever run: a file with a pickled object is refused. Every import ends in this
project's orientation (the axis points toward the Assistant, layer l is the output of block l) and says
so when a file is turned the other way.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
