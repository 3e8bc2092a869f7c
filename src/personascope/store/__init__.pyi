from ._checksums import file_sha256
from ._files import read_json, remove, sync, tmp_path, write_bytes, write_json
from ._folder import RunFolder
from ._records import Record, as_record, problem_of, read_record, sealed, short, write_record
from ._tensors import TensorFile, TensorPart, TensorSpec

__all__ = [
    "Record",
    "RunFolder",
    "TensorFile",
    "TensorPart",
    "TensorSpec",
    "as_record",
    "file_sha256",
    "problem_of",
    "read_json",
    "read_record",
    "remove",
    "sealed",
    "short",
    "sync",
    "tmp_path",
    "write_bytes",
    "write_json",
    "write_record",
]
