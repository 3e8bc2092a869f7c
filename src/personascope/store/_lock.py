"""The lock that prevents two processes from writing to one run folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from personascope.errors import StoreError


def take_lock(folder: Path, lock: BinaryIO) -> None:
    """Take a folder's lock; it belongs to the open file, so it is released when the process ends.

    Raises:
        StoreError: If another process holds it.
    """
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            f"another process is writing to {folder}", hint="wait for it, or use another folder"
        ) from error
