"""personascope: map the persona space of language models and find their Assistant Axis.

The names below are what a notebook begins with (docs/notebook.md); each is imported on first use.
`personascope.api` does what the commands do. Everything else is in the rooms below it, such as
`personascope.dynamics.monitor`, `personascope.evals` and `personascope.report`.
"""

from typing import Any

from personascope._lazy import attach, not_found

__version__ = "0.1.0"

_get, __dir__, __all__ = attach(__name__, __file__)


def __getattr__(name: str) -> Any:
    try:
        return _get(name)
    except AttributeError:
        raise not_found(__name__, __file__, name, __all__) from None
