"""Run folders: manifest, committed units, safetensors shards, atomic writes, resume."""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
