"""Write folders whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

from personascope.errors import StoreError
from personascope.store import remove, sync, tmp_path


@contextmanager
def new_folder(folder: Path, *, holds: Collection[str], kind: str) -> Generator[Path]:
    """Yield an empty temporary folder, which takes the place of ``folder`` at the end.

    An earlier folder of the same kind is replaced. After an exception it is unchanged.

    Args:
        folder: Final path of the folder.
        holds: Names that such a folder may hold; a folder with any other name in it is refused.
        kind: Kind of folder, for messages.

    Raises:
        StoreError: If the folder cannot be written, or already holds something else.
    """
    if folder.exists():
        entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else [folder.name]
        strange = [name for name in entries if name not in holds]
        if strange:
            raise StoreError(
                f"{folder} holds {strange[0]}, which is not part of {kind}",
                hint="give a new or an empty folder",
            )
    new = tmp_path(folder)
    old = new.with_name(f"{new.name}-old")
    try:
        remove(new)
        new.mkdir(parents=True)
        yield new
        sync(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
    except BaseException as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        remove(new)
        if isinstance(error, OSError):
            raise StoreError(
                f"{folder} could not be written: {error.strerror or error}",
                hint="free some space or choose another folder",
            ) from error
        raise
    remove(old)
