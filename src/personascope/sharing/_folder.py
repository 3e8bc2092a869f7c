"""Shared things in local folders and archives, written whole or not at all and checked on reading."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

from personascope.errors import SharingError, UsageError
from personascope.sharing._address import is_archive
from personascope.sharing._manifest import (
    MANIFEST,
    MAX_BYTES,
    MAX_FILES,
    Manifest,
    check_files,
    read_manifest,
)
from personascope.store import remove, short, sync, tmp_path

Given = Mapping[str, Path | bytes]
"""Path in the shared folder -> local file, or content."""

MAX_MANIFEST = 2**24
"""Largest manifest that is read, in bytes."""
_HEADERS = 2**26
"""Bytes of headers and card that a tar archive may hold beside what its manifest names."""
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def new_place(target: Path) -> Generator[Path]:
    """Yield a temporary path beside a target that takes its place at the end; an error leaves nothing.

    Raises:
        UsageError: If the target is there already, and is not an empty folder.
        SharingError: If it cannot be written.
    """
    check_free(target)
    tmp = tmp_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(tmp)
        yield tmp
        sync(tmp)
        if target.is_dir():
            target.rmdir()
        tmp.rename(target)
        sync(target.parent)
    except OSError as error:
        raise SharingError(
            f"{target} could not be written: {error.strerror or error}",
            hint="free some space or choose another place, and run the same command again",
        ) from error
    finally:
        # After a rename there is nothing to remove.
        shutil.rmtree(tmp, ignore_errors=True)
        if tmp.is_file():
            tmp.unlink(missing_ok=True)


def check_free(target: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        UsageError: If the target is there already, and is not an empty folder.
    """
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise UsageError(
            f"{target} is there already", hint="give a new or an empty folder, or remove it first"
        )


def write_folder(target: Path, given: Given) -> None:
    """Write what is shared into a new folder.

    Raises:
        UsageError: If the folder is there already, and is not empty.
        SharingError: If it cannot be written.
    """
    with new_place(target) as new:
        new.mkdir()
        for name, content in given.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
            sync(path)


def write_archive(target: Path, given: Given) -> None:
    """Write what is shared into a new archive, of the form that its name ends in.

    Times, owners and modes are left out, so that equal contents give equal archives.

    Raises:
        UsageError: If the file is there already.
        SharingError: If it cannot be written.
    """
    with new_place(target) as new:
        # The manifest stands first: a reader checks it before anything else.
        names = sorted(given, key=lambda name: (name != MANIFEST, name))
        if target.name.lower().endswith(".zip"):
            with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    entry = zipfile.ZipInfo(name)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with _opened(given[name]) as source, archive.open(entry, "w", force_zip64=True) as sink:
                        shutil.copyfileobj(source, sink)
            return
        with _tar_file(target, new) as file, tarfile.open(fileobj=file, mode="w") as archive:
            for name in names:
                with _opened(given[name]) as source:
                    entry = tarfile.TarInfo(name)
                    entry.size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    archive.addfile(entry, source)


@contextmanager
def _tar_file(target: Path, new: Path) -> Generator[IO[bytes]]:
    """Open the file of a tar archive for writing, compressed if the target's name says so."""
    with new.open("wb") as file:
        if target.name.lower().endswith(".tar"):
            yield file
            return
        # Without a name and a time in the header.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            yield cast("IO[bytes]", packed)


@contextmanager
def _opened(content: Path | bytes) -> Generator[BinaryIO]:
    if isinstance(content, bytes):
        yield io.BytesIO(content)
    else:
        with content.open("rb") as file:
            yield file


def copy_shared(source: Path, new: Path, *, max_bytes: int = MAX_BYTES) -> Manifest:
    """Copy what was shared as a folder or an archive into a new folder, and check it.

    Only the manifest and the files that it names are copied.

    Args:
        source: Folder or archive.
        new: Folder to make.
        max_bytes: Limit of the sizes of all files together.

    Raises:
        SharingError: If the archive is damaged or holds a path that leaves it, or a file is missing, damaged,
            or of a kind that is not shared; or the manifest is damaged.
    """
    new.mkdir(parents=True)
    if source.is_dir():
        _copy_folder(source, new, max_bytes)
    else:
        _unpack(source, new, max_bytes)
    manifest = read_manifest(new / MANIFEST, str(source), max_bytes=max_bytes)
    check_files(manifest, new)
    return manifest


def _copy_folder(source: Path, new: Path, max_bytes: int) -> None:
    if not (source / MANIFEST).is_file():
        raise SharingError(
            f"{source} holds no {MANIFEST}",
            hint="it was not shared by personascope: a run, plan or monitor is used from where it lies",
        )
    manifest = read_manifest(source / MANIFEST, str(source), max_bytes=max_bytes)
    for name, wanted in manifest.files.items():
        path = source / name
        # A link could lead anywhere.
        if any((source / part).is_symlink() for part in _parents(name)) or not path.is_file():
            raise SharingError(
                f"{path} is missing, or is no file", hint="copy it again from where it was made"
            )
        if path.stat().st_size != wanted.size:
            raise SharingError(
                f"{path} has {path.stat().st_size:,} bytes, and should have {wanted.size:,}",
                hint="copy it again from where it was made",
            )
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, new / name)
    shutil.copyfile(source / MANIFEST, new / MANIFEST)


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _unpack(source: Path, new: Path, max_bytes: int) -> None:
    """Write what the manifest of an archive names, checking every name and size first."""
    if not is_archive(source):
        raise UsageError(f"{source} is no archive", hint="give a .zip, .tar or .tar.gz, a folder or hub:...")
    try:
        if source.name.lower().endswith(".zip"):
            with zipfile.ZipFile(source) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
                if any(info.compress_type not in _PACKED for info in infos):
                    raise SharingError(f"{source} is packed in a way that is not read", hint="pack it as zip")
                names = [info.filename for info in infos]
                _extract(source, names, new, max_bytes, lambda at: archive.open(infos[at]))
        else:
            mode = "r:" if source.name.lower().endswith(".tar") else "r:gz"
            with tarfile.open(source, mode) as archive:
                members = _members(source, archive, max_bytes)
                names = [member.name for member in members]
                _extract(source, names, new, max_bytes, lambda at: archive.extractfile(members[at]))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise SharingError(f"{source} is no whole archive: {error}", hint="copy it again") from error
    except (OSError, ValueError, OverflowError) as error:
        # gzip and a damaged header fail in these ways.
        raise SharingError(f"{source} cannot be read: {error}", hint="copy it again") from error


def _members(source: Path, archive: tarfile.TarFile, max_bytes: int) -> list[tarfile.TarInfo]:
    """Return the files of a tar archive; refuse anything else in it, and more than is fetched."""
    found: list[tarfile.TarInfo] = []
    for member in archive:
        if archive.offset > max_bytes + _HEADERS or len(found) > MAX_FILES:
            raise SharingError(
                f"{source} holds more than the {max_bytes:,} bytes or {MAX_FILES:,} files that are taken",
                hint="`personascope pull --max-gb` raises the limit, if you expect that much",
            )
        if member.isdir():
            continue
        if not member.isreg():
            raise SharingError(
                f"{source} holds {short(member.name)}, which is a link or a device",
                hint="do not use it: nothing of personascope writes such an archive",
            )
        found.append(member)
    return found


def _extract(
    source: Path, names: list[str], new: Path, max_bytes: int, opened: Callable[[int], IO[bytes] | None]
) -> None:
    for name in names:
        _check_inside(source, name)
    if len(set(names)) < len(names):
        raise SharingError(f"{source} holds a name twice", hint="do not use it")
    if MANIFEST not in names:
        raise SharingError(f"{source} holds no {MANIFEST}", hint="make it by `personascope push`")
    _write(opened(names.index(MANIFEST)), new / MANIFEST, MAX_MANIFEST, source)
    manifest = read_manifest(new / MANIFEST, str(source), max_bytes=max_bytes)
    for name, wanted in manifest.files.items():
        if name not in names:
            raise SharingError(f"{name} is not in {source}", hint="copy the archive again")
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        _write(opened(names.index(name)), new / name, wanted.size, source)


def _check_inside(source: Path, name: str) -> None:
    """Refuse an archive with a path that leaves it, wherever that may lead on any system."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise SharingError(
            f"{source} holds {short(name)}, a path that leaves the archive",
            hint="do not use it: nothing of personascope writes such an archive",
        )


def _write(stream: IO[bytes] | None, path: Path, size: int, source: Path) -> None:
    """Write a stream to a file; one that gives more than its size is refused without reading on."""
    if stream is None:
        raise SharingError(f"{path.name} in {source} is no file", hint="copy it again")
    with stream as reader, path.open("wb") as file:
        left = size + 1
        while left and (block := reader.read(min(left, 2**20))):
            file.write(block)
            left -= len(block)
        if not left:
            raise SharingError(
                f"{path.name} in {source} has more than the {size:,} bytes that it may have",
                hint="copy it again",
            )
