from ._files import read_json, remove, sync, tmp_path, write_bytes, write_json
from ._folder import RunFolder, UnitRecord, free_bytes
from ._tensors import (
    TensorFile,
    TensorPart,
    TensorSpec,
    from_bfloat16,
    to_bfloat16,
    write_tensors,
)

__all__ = [
    "RunFolder",
    "TensorFile",
    "TensorPart",
    "TensorSpec",
    "UnitRecord",
    "free_bytes",
    "from_bfloat16",
    "read_json",
    "remove",
    "sync",
    "tmp_path",
    "to_bfloat16",
    "write_bytes",
    "write_json",
    "write_tensors",
]
