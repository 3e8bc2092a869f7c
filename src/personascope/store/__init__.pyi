from ._files import read_json, remove, sync, tmp_path, write_bytes, write_json
from ._folder import RunFolder
from ._tensors import TensorFile, TensorPart, TensorSpec

__all__ = [
    "RunFolder",
    "TensorFile",
    "TensorPart",
    "TensorSpec",
    "read_json",
    "remove",
    "sync",
    "tmp_path",
    "write_bytes",
    "write_json",
]
