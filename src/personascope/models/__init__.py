"""Models: finding one, loading it, and its layer stack."""

from personascope.models._cache import cache_root
from personascope.models._convert import check_conversion, convert_gguf
from personascope.models._files import ModelFiles, open_files
from personascope.models._load import DtypeName, LoadedModel, assemble, load
from personascope.models._source import EMBEDDED, Embedded, ModelSource, SourceKind, resolve
from personascope.models._stack import LayerStack, block_output, layer_stack, replace_block_output
from personascope.models._steered import Steered, steered

__all__ = [
    "EMBEDDED",
    "DtypeName",
    "Embedded",
    "LayerStack",
    "LoadedModel",
    "ModelFiles",
    "ModelSource",
    "SourceKind",
    "Steered",
    "assemble",
    "block_output",
    "cache_root",
    "check_conversion",
    "convert_gguf",
    "layer_stack",
    "load",
    "open_files",
    "replace_block_output",
    "resolve",
    "steered",
]
