"""Atomic and durable file writing: after an interruption, a file is complete or absent."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personascope.errors import StoreError

TMP = ".tmp-"
"""Infix of temporary names, between the final name and the process id."""

MAX_BYTES = 2**26
"""Maximum size of a JSON record, in bytes; as Python objects it takes many times as much memory."""

AGAIN = "use another folder, or --restart"


def tmp_path(path: Path) -> Path:
    """Return the temporary path at which this process writes ``path`` before renaming it."""
    return path.with_name(f"{path.name}{TMP}{os.getpid()}")


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Convert an OSError while writing ``path`` to a StoreError.

    Raises:
        StoreError: If the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk is full: {path} could not be written",
                hint="free some space and run the same command again; what was committed is kept",
            ) from error
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}",
            hint="check that the folder exists and may be written, then run the same command again",
        ) from error


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably.

    Raises:
        StoreError: If the file cannot be written; an earlier file of that name is left untouched.
    """
    tmp = tmp_path(path)
    with writing(path):
        try:
            with tmp.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            tmp.replace(path)
            sync(path.parent)
        except OSError:
            tmp.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically and durably, with sorted keys.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, *, hint: str = AGAIN, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: File to read.
        hint: Hint of the error if it cannot be read.
        max_bytes: Maximum size in bytes; a larger file is refused without reading it.

    Raises:
        StoreError: If the file is missing, too large, is not JSON, or is not an object.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise StoreError(f"{path} has {size:,} bytes, a record has at most {max_bytes:,}", hint=hint)
            value = json.loads(file.read(max_bytes))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint=hint) from error
    except RecursionError as error:
        raise StoreError(f"{path} cannot be read: it is nested too deeply", hint=hint) from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} holds a {type(value).__name__}, not a JSON object", hint=hint)
    return value


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents; do nothing if it is missing.

    Raises:
        StoreError: If it cannot be removed.
    """
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
