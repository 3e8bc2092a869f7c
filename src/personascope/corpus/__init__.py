"""The corpus: roles with their system prompts, the questions asked of all of them, and the default.

``load_corpus`` reads the built-in corpus, a folder in the project's YAML format, or a folder in the released
JSON format. The same texts give the same ``Corpus.requests_digest`` in either format. ``check_corpus`` finds
what the schema cannot: duplicates, near-duplicates, missing or uneven counts.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
