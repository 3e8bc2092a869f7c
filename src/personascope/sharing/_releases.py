"""The authors' released files on the hub: a data set without a manifest, whose files are pickles.

They are read by `personascope.interop`, which never unpickles, and are kept as safetensors.
"""

from __future__ import annotations

from pathlib import Path

from personascope.errors import SharingError
from personascope.sharing._address import HubAddress
from personascope.sharing._hub import Listing
from personascope.sharing._manifest import MAX_FILES

AXES = ("assistant_axis.pt", "axis.pt")
_FOLDERS = ("role_vectors", "vectors", "trait_vectors")
_SINGLE = (*AXES, "default_vector.pt", "capping_config.pt")


def is_released(address: HubAddress, there: Listing) -> bool:
    """Return whether a data set, or the folder of it that the address names, has the released layout."""
    root = f"{address.folder}/" if address.folder else ""
    return any(f"{root}{name}" in there.files for name in AXES)


def fetch_release(address: HubAddress, there: Listing, new: Path, *, max_bytes: int) -> None:
    """Fetch released files and write them as a release of ours.

    Args:
        address: Data set, and the folder of one model in it.
        there: Its files.
        new: Folder to write.
        max_bytes: Limit of the sizes of all files together.

    Raises:
        SharingError: If they are too large together.
        InteropError: If a file is unsafe or damaged, or the axis is reversed.
    """
    root = f"{address.folder}/" if address.folder else ""
    sizes = [
        size for name, size in there.files.items() if name.startswith(root) and _known(name[len(root) :])
    ]
    if sum(sizes) > max_bytes or len(sizes) > MAX_FILES:
        raise SharingError(
            f"the released files of {address} have {sum(sizes):,} bytes in {len(sizes):,} files, and at most "
            f"{max_bytes:,} are fetched",
            hint="`personascope pull --max-gb` raises the limit, if you expect that much",
        )
    # Import here, because only a release needs torch.
    from personascope.interop import import_source

    source = f"{address.repo}:{address.folder}" if address.folder else address.repo
    import_source(source, revision=there.commit).save(new)  # pyright: ignore[reportAttributeAccessIssue]


def _known(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return name in _SINGLE or (folder in _FOLDERS and file.endswith(".pt"))
