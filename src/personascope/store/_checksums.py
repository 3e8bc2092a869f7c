"""File checksums: recorded when a file is written, and compared before it is read."""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from pathlib import Path

from personascope.errors import StoreError

log = logging.getLogger(__name__)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CheckedFiles:
    """Compare files with their recorded checksums, each file once."""

    def __init__(self) -> None:
        """Start with no file compared."""
        self._same: dict[Path, str] = {}

    def require(self, path: Path, sha256: str | None) -> None:
        """Check that a file is unchanged since it was written.

        Args:
            path: File to check.
            sha256: Recorded checksum; None skips the check.

        Raises:
            StoreError: If the file is missing, cannot be read, or has changed.
        """
        if sha256 is None or self._same.get(path) == sha256:
            return
        try:
            found = file_sha256(path)
        except FileNotFoundError:
            raise StoreError(
                f"{path} is missing, and the run's records name it",
                hint="copy it back from where the run was made, or run again with --restart",
            ) from None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}", hint="run again with --restart") from error
        if found != sha256:
            raise StoreError(
                f"{path} was changed since it was written: its checksum is not the recorded one",
                hint="copy it again from where the run was made, or run again with --restart",
            )
        self._same[path] = sha256


@lru_cache(maxsize=256)
def say_unchecked(folder: Path) -> None:
    """Warn once that a run folder of an earlier version has no checksums."""
    log.warning("%s is of an earlier version, without checksums: damage to it goes unnoticed", folder)
