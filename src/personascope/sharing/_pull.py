"""Fetch what was shared, from the hub, a folder or an archive, and check it before it is in place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from personascope.errors import PersonascopeError, SharingError, UsageError
from personascope.sharing._address import HubAddress, hub_address
from personascope.sharing._folder import MAX_MANIFEST, copy_shared, new_place
from personascope.sharing._hub import OURS, Listing, fetch_files, list_files
from personascope.sharing._manifest import (
    MANIFEST,
    MAX_BYTES,
    PICKLES,
    Kind,
    Manifest,
    check_files,
    read_manifest,
)
from personascope.sharing._releases import fetch_release, is_released

_HUB_FILES = ".cache"

Check = Callable[[Kind, Path], None]
"""Read a thing that was fetched; raise if it is not whole."""


def unchecked(kind: Kind, folder: Path) -> None:
    """Check nothing: what is read later is compared with its own digests then."""
    del kind, folder


@dataclass(frozen=True, slots=True)
class Pulled:
    """A thing that was fetched.

    Attributes:
        folder: Its folder.
        kind: Kind of the thing.
        model: Name of its model; "" if it does not say.
        licence: Licence of the model; "" if unknown.
        texts: Whether responses of the model are among the files.
        digest: SHA-256 of the manifest's content; "" for released files, which have none.
        commit: Commit on the hub; "" elsewhere.
    """

    folder: Path
    kind: Kind
    model: str
    licence: str
    texts: bool
    digest: str
    commit: str = ""


def receive(
    source: Path | str,
    out: Path,
    *,
    revision: str | None = None,
    max_bytes: int = MAX_BYTES,
    check: Check = unchecked,
    tell: Callable[[str], None],
) -> Pulled:
    """Fetch a shared thing into a new folder, and check it.

    Args:
        source: ``hub:owner/name[:folder][@revision]``, an archive, or a folder that was shared.
        out: New or empty folder.
        revision: Branch, tag or commit on the hub.
        max_bytes: Limit of the sizes of all files together; more is refused before it is fetched.
        check: Callback that reads the thing before it is in place.
        tell: Callback for status messages.

    Raises:
        UsageError: If the source is malformed, or the folder is there already.
        SharingError: If something is missing, damaged, too large or not allowed; nothing is left of it.
    """
    address = hub_address(source)
    if address is None:
        if revision is not None:
            raise UsageError(f"--revision is for the hub, and {source} is none", hint="leave it out")
        path = Path(source).expanduser()
        if not path.exists():
            raise UsageError(f"there is no {source}", hint="give a folder, an archive, or hub:owner/name")
        with new_place(out) as new:
            manifest = copy_shared(path, new, max_bytes=max_bytes)
            _read(check, manifest.kind, new, str(source))
        return _pulled(out, manifest)
    if revision is not None and address.revision not in (None, revision):
        raise UsageError(f"{source} and --revision {revision} name two revisions", hint="name one")
    address = HubAddress(address.repo, address.folder, revision or address.revision)
    there = list_files(address)
    return receive_listed(address, there, out, max_bytes=max_bytes, check=check, tell=tell)


def receive_listed(
    address: HubAddress,
    there: Listing,
    out: Path,
    *,
    max_bytes: int,
    check: Check = unchecked,
    tell: Callable[[str], None],
) -> Pulled:
    """Fetch a shared thing from the hub at a commit that is known; see `receive`."""
    with new_place(out) as new:
        if MANIFEST not in there.files:
            if not is_released(address, there):
                raise SharingError(
                    f"{address} holds no {MANIFEST}, and no released axis" + _released_folders(there),
                    hint="name a data set that `personascope push` made, or one with the released files",
                )
            tell(f"fetching the released files of {address} ...")
            fetch_release(address, there, new, max_bytes=max_bytes)
            _read(check, "release", new, str(address))
            return Pulled(out, "release", "", "", False, "", there.commit)
        if address.folder:
            raise UsageError(
                f"{address} names a folder, and the data set holds one thing", hint="leave it out"
            )
        new.mkdir(parents=True)
        manifest = _fetch_manifest(address, there, new, max_bytes)
        _check_listing(address, there, manifest, out)
        _tell_left(there, manifest, tell)
        tell(f"fetching {len(manifest.files)} files, {manifest.size / 1e6:.1f} MB, from {address} ...")
        fetch_files(address, there.commit, manifest.files, new)
        # What huggingface_hub notes beside the files.
        shutil.rmtree(new / _HUB_FILES, ignore_errors=True)
        check_files(manifest, new)
        _read(check, manifest.kind, new, str(address))
    return _pulled(out, manifest, there.commit)


def _read(check: Check, kind: Kind, folder: Path, whose: str) -> None:
    """Read what was fetched.

    Raises:
        SharingError: If it is not what its manifest says.
    """
    try:
        check(kind, folder)
    except PersonascopeError as error:
        told = error.message.replace(f"{folder}/", "")
        raise SharingError(
            f"{whose} is no whole {kind}, though its files are as its manifest says: {told}",
            hint="ask its owner to push it again",
        ) from error


def _fetch_manifest(address: HubAddress, there: Listing, new: Path, max_bytes: int) -> Manifest:
    if there.files[MANIFEST] > MAX_MANIFEST:
        raise SharingError(
            f"{MANIFEST} of {address} has {there.files[MANIFEST]:,} bytes", hint="do not use it"
        )
    fetch_files(address, there.commit, [MANIFEST], new)
    return read_manifest(new / MANIFEST, str(address), max_bytes=max_bytes)


def _check_listing(address: HubAddress, there: Listing, manifest: Manifest, out: Path) -> None:
    """Check that every file is there in its size, and that there is room for all, before one is fetched."""
    for name, wanted in manifest.files.items():
        size = there.files.get(name)
        if size != wanted.size:
            what = "is missing" if size is None else f"has {size:,} bytes, and should have {wanted.size:,}"
            raise SharingError(f"{name} of {address} {what}", hint="ask its owner to push it again")
    free = shutil.disk_usage(out.parent).free
    if manifest.size > free:
        raise SharingError(
            f"the files have {manifest.size:,} bytes, and {out.parent} has {free:,} free",
            hint="free some space",
        )


def _tell_left(there: Listing, manifest: Manifest, tell: Callable[[str], None]) -> None:
    unknown = sorted(set(there.files) - set(manifest.files) - {MANIFEST, *OURS})
    if not unknown:
        return
    shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
    warned = " (a pickle can run any code)" if any(one.lower().endswith(PICKLES) for one in unknown) else ""
    tell(f"not fetched, because the manifest does not name it: {shown}{warned}")


def _released_folders(there: Listing) -> str:
    found = sorted({name.split("/")[0] for name in there.files if name.endswith("/assistant_axis.pt")})
    return f", but folders with one: {', '.join(f':{name}' for name in found[:6])}" if found else ""


def _pulled(out: Path, manifest: Manifest, commit: str = "") -> Pulled:
    model = "" if manifest.model is None else manifest.model.id
    return Pulled(out, manifest.kind, model, manifest.licence, manifest.texts, manifest.checksum, commit)
