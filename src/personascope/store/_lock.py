"""The lock that keeps a second process from writing to a run folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from personascope.errors import StoreError


def take_lock(folder: Path, lock: BinaryIO) -> None:
    """Take a folder's lock; it goes with the open file, so a process that dies leaves none.

    Raises:
        StoreError: If another process holds it.
    """
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            f"another process is writing to {folder}", hint="wait for it, or use another folder"
        ) from error
