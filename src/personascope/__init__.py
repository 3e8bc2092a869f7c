"""personascope: map the persona space of language models and find their Assistant Axis."""

__version__ = "0.1.0"
