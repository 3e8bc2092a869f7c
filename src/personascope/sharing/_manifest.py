"""The manifest of what is shared: ``personascope.json``, with size and SHA-256 of every file.

A file that the manifest does not name is never fetched. A name that could leave the folder, and a kind of
file that could run code, are refused before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from personascope.errors import SharingError, StoreError
from personascope.store import Record, file_sha256, read_record, sealed, short

MANIFEST = "personascope.json"
FORMAT = 1
MAX_BYTES = 8 * 2**30
"""Default limit of the sizes of all files together, in bytes; a map of a model of 70B has 1.6 GB."""
MAX_FILES = 20_000

Kind = Literal["run", "plan", "monitor", "release"]

SUFFIXES = (".json", ".safetensors", ".parquet")
"""Endings of the files that are shared; none of them can hold code."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
"""Endings of files that may be pickles, which run code when they are loaded."""

_SEGMENT = re.compile(r"[A-Za-z0-9_][\w.@+-]{0,127}", re.ASCII)
_DEPTH = 6
_AGAIN = "fetch it again, or ask its owner to push it again"


class SharedFile(Record):
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SharedModel(Record):
    """The model that the thing is of: its name, and the digest or commit of its files."""

    id: str
    revision: str


class Manifest(Record):
    """Schema of the manifest.

    Attributes:
        kind: "run" (a map, with what belongs to it), "plan", "monitor" or "release".
        version: Version of personascope that wrote it.
        model: Model that the thing is of; None for a release, which does not say.
        licence: Licence of the model; "" if unknown.
        texts: Whether responses of the model are among the files.
        files: Path in the folder -> size and SHA-256.
        checksum: SHA-256 of all of this, the digest of what is shared.
    """

    kind: Kind
    version: str
    model: SharedModel | None
    licence: str
    texts: bool
    files: dict[str, SharedFile] = Field(min_length=1, max_length=MAX_FILES)
    checksum: str

    @property
    def size(self) -> int:
        """Sizes of all files together, in bytes."""
        return sum(file.size for file in self.files.values())


def describe_files(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return path in the folder -> size and SHA-256, as JSON values.

    Raises:
        SharingError: If a file cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, path in sorted(files.items()):
        try:
            found[name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        except OSError as error:
            raise SharingError(f"{path} cannot be read: {error}", hint="check the file") from error
    return found


def manifest_record(
    kind: Kind,
    files: Mapping[str, Path],
    *,
    version: str,
    model: tuple[str, str] | None,
    licence: str,
    texts: bool,
) -> dict[str, Any]:
    """Return the sealed manifest of files, as JSON values.

    Raises:
        SharingError: If a file cannot be read, or has a name that a manifest may not hold.
    """
    described = describe_files(files)
    for name in described:
        check_name(name, MANIFEST)
    return sealed(
        {
            "format": FORMAT,
            "kind": kind,
            "version": version,
            "model": None if model is None else {"id": model[0], "revision": model[1]},
            "licence": licence,
            "texts": texts,
            "files": described,
        }
    )


def read_manifest(path: Path, whose: str, *, max_bytes: int = MAX_BYTES) -> Manifest:
    """Read a manifest and check every name in it.

    Args:
        path: File of the manifest.
        whose: What it is of, for messages.
        max_bytes: Limit of the sizes of all files together.

    Raises:
        SharingError: If it is missing, damaged, changed by hand or of another format, or names a file that
            may not be fetched, or files that are too large together.
    """
    called = f"{MANIFEST} of {whose}"
    try:
        manifest = read_record(path, Manifest, hint=_AGAIN, format=FORMAT)
    except StoreError as error:
        raise SharingError(error.message.replace(str(path), called), hint=_AGAIN) from error
    for name in manifest.files:
        check_name(name, called)
    folded = {name.casefold() for name in manifest.files}
    if len(folded) < len(manifest.files):
        raise SharingError(f"{called} names a file twice, but for upper case", hint=_AGAIN)
    if manifest.size > max_bytes:
        raise SharingError(
            f"the files of {whose} have {manifest.size:,} bytes, and at most {max_bytes:,} are fetched",
            hint="`personascope pull --max-gb` raises the limit, if you expect that much",
        )
    return manifest


def check_name(name: str, whose: str) -> None:
    """Check that a path stays in the folder, and is of a kind that cannot run code.

    Raises:
        SharingError: If not; the message names it.
    """
    parts = name.split("/")
    if name.lower().endswith(PICKLES):
        raise SharingError(
            f"{whose} names {short(name)}, which may be a pickle: loading one can run any code",
            hint="the authors' released files are read by `personascope import`, which never unpickles",
        )
    wrong = (
        len(parts) > _DEPTH
        or not all(_SEGMENT.fullmatch(part) for part in parts)
        or ".." in name
        or name in (MANIFEST, "README.md")
    )
    if wrong or not name.endswith(SUFFIXES):
        raise SharingError(
            f"{whose} names {short(name)}, which is no file of a map, plan, monitor or release",
            hint="do not use it: nothing of personascope writes such a file",
        )


def check_files(manifest: Manifest, folder: Path) -> None:
    """Compare the files in a folder with the manifest.

    Raises:
        SharingError: If a file is missing, or has another size or content; the message names it.
    """
    for name, wanted in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            digest = file_sha256(path) if size == wanted.size else ""
        except OSError as error:
            raise SharingError(f"{name} is missing or cannot be read: {error}", hint=_AGAIN) from error
        if digest != wanted.sha256:
            what = f"{size:,} bytes, and should have {wanted.size:,}" if not digest else "another SHA-256"
            raise SharingError(f"{name} is damaged or was changed: it has {what}", hint=_AGAIN)
