"""personascope: map the persona space of language models and find their Assistant Axis.

The names below are what a notebook begins with; each is imported when it is used. Everything else is in the
rooms: `personascope.api` does what the commands do; `personascope.dynamics.monitor`, `personascope.evals`,
`personascope.report` and their like are below it.
"""

from personascope._lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
