"""personascope: map the persona space of language models and find their Assistant Axis.

The names below are what a notebook begins with; each is imported on first use. `personascope.api` does what
the commands do. Everything else is in the subpackages below it, such as `personascope.dynamics.monitor`,
`personascope.evals` and `personascope.report`.
"""

from personascope._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
