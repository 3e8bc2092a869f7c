from ._cache import cache_root
from ._call import BackboneCall
from ._convert import check_conversion
from ._files import ModelFiles, open_files
from ._identity import model_identity
from ._load import LoadedModel, in_memory, load
from ._read import read_tokenizer
from ._source import EMBEDDED, resolve
from ._stack import LayerStack, block_output, layer_stack, replace_block_output
from ._steered import Steered, steered

__all__ = [
    "EMBEDDED",
    "BackboneCall",
    "LayerStack",
    "LoadedModel",
    "ModelFiles",
    "Steered",
    "block_output",
    "cache_root",
    "check_conversion",
    "in_memory",
    "layer_stack",
    "load",
    "model_identity",
    "open_files",
    "read_tokenizer",
    "replace_block_output",
    "resolve",
    "steered",
]
