from ._cache import cache_root
from ._convert import check_conversion, convert_gguf
from ._files import ModelFiles, open_files
from ._load import DtypeName, LoadedModel, assemble, load
from ._source import EMBEDDED, Embedded, ModelSource, SourceKind, resolve
from ._stack import LayerStack, block_output, layer_stack, replace_block_output
from ._steered import Steered, steered

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
