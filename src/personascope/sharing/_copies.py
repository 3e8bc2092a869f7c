"""Local copies of what lies on the hub, fetched once for each commit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import quote

from personascope.errors import UsageError
from personascope.models import cache_root
from personascope.sharing._address import HubAddress
from personascope.sharing._hub import UnreachableError, list_files
from personascope.sharing._manifest import MANIFEST, MAX_BYTES, Kind, read_manifest
from personascope.sharing._pull import receive_listed
from personascope.store import write_bytes

_WHAT = {"run": "a map", "plan": "a plan", "monitor": "a monitor", "release": "released vectors"}


def local_copy(
    address: HubAddress,
    kinds: Collection[Kind],
    *,
    max_bytes: int = MAX_BYTES,
    tell: Callable[[str], None],
) -> Path:
    """Return the folder of a local copy of what lies on the hub; fetch and check it if there is none.

    A copy is kept in the cache for each commit. Where the hub cannot be reached, the last copy of the branch
    is used, and that is said.

    Args:
        address: Data set on the hub.
        kinds: Kinds that the caller can use.
        max_bytes: Limit of the sizes of all files together.
        tell: Callback for status messages.

    Raises:
        UsageError: If it is of another kind.
        SharingError: If it cannot be fetched, or is damaged.
    """
    commit = address.revision if address.is_commit else None
    folder = None if commit is None else _folder(address, commit)
    if folder is None or not folder.is_dir():
        folder = _fetched(address, max_bytes, tell)
    found = _kind(folder)
    if found not in kinds:
        wanted = " or ".join(_WHAT[kind] for kind in kinds)
        raise UsageError(f"{address} is {_WHAT[found]}, not {wanted}", hint=_hint(found, address))
    return folder


def _fetched(address: HubAddress, max_bytes: int, tell: Callable[[str], None]) -> Path:
    note = (
        _root(address) / "revisions" / quote(f"{Path(address.repo).name}@{address.revision or ''}", safe="@")
    )
    try:
        there = list_files(address)
    except UnreachableError:
        last = note.read_text("utf-8").strip() if note.is_file() else ""
        if not last or not _folder(address, last).is_dir():
            raise
        tell(f"the hub cannot be reached: {address} is taken as it was at {last[:12]}")
        return _folder(address, last)
    folder = _folder(address, there.commit)
    if not folder.is_dir():
        try:
            receive_listed(address, there, folder, max_bytes=max_bytes, tell=tell)
        except UsageError:
            # Another process may have fetched the same meanwhile.
            if not (folder / MANIFEST).is_file():
                raise
        tell(f"{address} is kept in {folder}")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(note, f"{there.commit}\n".encode())
    return folder


def _root(address: HubAddress) -> Path:
    return cache_root() / "hub" / address.repo.split("/")[0]


def _folder(address: HubAddress, commit: str) -> Path:
    # The name stands last, because plans and runs are called by the name of their folder.
    name = address.repo.split("/")[1]
    held = f"{name}:{address.folder}".replace("/", ":").replace(":", "--") if address.folder else name
    return _root(address) / commit / held


def _kind(folder: Path) -> Kind:
    path = folder / MANIFEST
    return read_manifest(path, folder.name, max_bytes=2**63).kind if path.is_file() else "release"


def _hint(kind: Kind, address: HubAddress) -> str:
    return {
        "run": f"personascope show {address}",
        "plan": f'api.open_plan("{address}") reads it, and --plan takes it',
        "monitor": f'api.open_monitor("{address}") reads it, and --monitor takes it',
        "release": f"personascope show {address}",
    }[kind]
