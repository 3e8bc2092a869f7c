"""Import and export the files of other projects: the authors' ``.pt`` files, control vectors, transcripts.

No code in a file is ever run: a file with a pickled object is refused. Every import has this project's
orientation (the axis points toward the Assistant, layer l is the output of block l), and a reversed axis is
refused.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
