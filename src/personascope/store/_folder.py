"""Run folders: what a long run leaves on the disk, committed piece by piece.

::

    manifest.json        what the run is; compared when it is taken up again
    units/00042/         one committed unit: unit.json, rollouts.parquet and safetensors parts
    units/00042.g1/      the same unit after it was rewritten; the highest generation counts
    <kind>/<name>.safetensors   shards that outlive the units they were made from
    .lock                held by the process that writes

A unit is written under another name and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import StoreError
from personascope.store._files import TMP, read_json, remove, sync, tmp_path, write_json, writing
from personascope.store._tensors import TensorFile, TensorPart, write_tensors

FORMAT = 1
_UNIT = re.compile(r"(\d{5,})(?:\.g(\d+))?")
_RESTARTING = {"restarting": True}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A committed unit.

    Attributes:
        index: Position of the unit in the run.
        generation: How many times it was rewritten.
        path: Its folder.
        meta: The content of its unit.json.
    """

    index: int
    generation: int
    path: Path
    meta: Mapping[str, Any]


class RunFolder:
    """A run folder, opened for writing by one process (`open`) or for reading (`read`).

    Use it as a context manager, so that the lock is given back.
    """

    def __init__(self, path: Path, lock: BinaryIO | None) -> None:
        """Take an existing folder as it is; `open` and `read` prepare and check it."""
        self.path = path
        self._lock = lock
        self.manifest: dict[str, Any] = {}
        self.units: dict[int, UnitRecord] = {}

    @classmethod
    def open(
        cls, path: Path, identity: Mapping[str, Any], notes: Mapping[str, Any], *, restart: bool = False
    ) -> RunFolder:
        """Create a run folder, or take up the run in it.

        Leftovers of a process that was killed are removed.

        Args:
            path: The folder; it need not exist.
            identity: JSON values that must be the same when the run is taken up again.
            notes: JSON values that are only recorded (of the first start).
            restart: Forget the run that is in the folder.

        Raises:
            StoreError: If another process writes there, if the folder holds another run or
                something else, or if it cannot be written.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / ".lock").open("ab")
        folder = cls(path, lock)
        try:
            folder._take_lock(lock)
            folder._prepare(identity, notes, restart)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Open a run folder without the right to write; nothing is cleaned up.

        Raises:
            StoreError: If there is no run in the folder.
        """
        folder = cls(path, None)
        folder.manifest = read_json(path / "manifest.json")
        if folder.manifest.get("format") != FORMAT:
            raise StoreError(f"{path} holds no run of format {FORMAT}", hint="give the folder of a run")
        folder._scan()
        return folder

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def commit(
        self,
        index: int,
        *,
        rows: pa.Table,
        meta: Mapping[str, Any],
        parts: Mapping[str, TensorPart],
        carry: tuple[str, ...] = (),
    ) -> UnitRecord:
        """Commit a unit; if it was committed before, as its next generation, which replaces it.

        Args:
            index: Position of the unit in the run.
            rows: Becomes rollouts.parquet.
            meta: Becomes unit.json.
            parts: Name -> tensors, each becoming ``<name>.safetensors``.
            carry: Parts taken over from the generation before, where it has them.

        Raises:
            StoreError: If it cannot be written; nothing of it is then left.
        """
        self._must_write()
        before = self.units.get(index)
        generation = before.generation + 1 if before else 0
        path = self.path / "units" / (f"{index:05d}" + (f".g{generation}" if generation else ""))
        tmp = tmp_path(path)
        with writing(path):
            try:
                tmp.mkdir(parents=True)
                pq.write_table(rows, tmp / "rollouts.parquet", compression="zstd")
                sync(tmp / "rollouts.parquet")
                write_json(tmp / "unit.json", meta)
                for name, part in parts.items():
                    write_tensors(tmp / f"{name}.safetensors", part)
                for name in carry:
                    old = before.path / f"{name}.safetensors" if before else None
                    if old is not None and old.exists():
                        shutil.copyfile(old, tmp / old.name)
                        sync(tmp / old.name)
                sync(tmp)
                tmp.rename(path)
                sync(path.parent)
            except BaseException:
                shutil.rmtree(tmp, ignore_errors=True)
                raise
        if before:
            remove(before.path)
        self.units[index] = UnitRecord(index, generation, path, dict(meta))
        return self.units[index]

    def rows(self, index: int) -> pa.Table:
        """Read the rows of a committed unit.

        Raises:
            StoreError: If the file is damaged.
        """
        path = self.units[index].path / "rollouts.parquet"
        with _reading(path):
            return pq.ParquetFile(path).read()

    def part(self, index: int, name: str) -> TensorFile | None:
        """Open a part of a committed unit; None if the unit has no such part."""
        path = self.units[index].path / f"{name}.safetensors"
        return TensorFile(path) if path.exists() else None

    def drop_part(self, index: int, name: str) -> None:
        """Remove a part of a committed unit; a missing one is fine."""
        self._must_write()
        remove(self.units[index].path / f"{name}.safetensors")

    def write_shard(self, kind: str, name: str, part: TensorPart) -> None:
        """Write ``<kind>/<name>.safetensors`` atomically.

        Raises:
            StoreError: If it cannot be written.
        """
        self._must_write()
        path = self._shard_path(kind, name)
        tmp = tmp_path(path)
        with writing(path):
            try:
                path.parent.mkdir(exist_ok=True)
                write_tensors(tmp, part)
                tmp.replace(path)
                sync(path.parent)
            except BaseException:
                tmp.unlink(missing_ok=True)
                raise

    def shard(self, kind: str, name: str) -> TensorFile | None:
        """Open a shard; None if it was not written yet."""
        path = self._shard_path(kind, name)
        return TensorFile(path) if path.exists() else None

    def shards(self, kind: str) -> set[str]:
        """Return the names of the shards of a kind."""
        return {path.stem for path in (self.path / kind).glob("*.safetensors")}

    def disk_bytes(self) -> int:
        """Return the bytes of all files in the folder."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def _shard_path(self, kind: str, name: str) -> Path:
        return self.path / kind / f"{name}.safetensors"

    def _must_write(self) -> None:
        if self._lock is None:
            raise StoreError(f"{self.path} is not open for writing", hint="open it with RunFolder.open")

    def _take_lock(self, lock: BinaryIO) -> None:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"another process is writing to {self.path}", hint="wait for it, or use another folder"
            ) from error

    def _prepare(self, identity: Mapping[str, Any], notes: Mapping[str, Any], restart: bool) -> None:
        path = self.path / "manifest.json"
        found = read_json(path) if path.exists() else None
        if found is None:
            strange = [
                entry.name for entry in self.path.iterdir() if entry.name != ".lock" and TMP not in entry.name
            ]
            if strange:
                raise StoreError(
                    f"{self.path} holds {min(strange)} and other things, but no run"
                    if len(strange) > 1
                    else f"{self.path} holds {strange[0]}, but no run",
                    hint="give an empty or a new folder",
                )
        elif restart or found == _RESTARTING:
            self._wipe(path)
            found = None
        elif found.get("format") != FORMAT:
            raise StoreError(
                f"{path} is of format {found.get('format')}, this version writes {FORMAT}",
                hint="use another folder, or --restart",
            )
        else:
            different = differences(found.get("identity", {}), identity)
            if different:
                raise StoreError(
                    f"{self.path} holds another run: " + "; ".join(different),
                    hint="use another folder, or --restart to forget that run",
                )
        for pattern in (f"*{TMP}*", f"*/*{TMP}*"):
            for leftover in list(self.path.glob(pattern)):
                remove(leftover)
        if found is None:
            found = {"format": FORMAT, "identity": dict(identity), "notes": dict(notes)}
            write_json(path, found)
        self.manifest = found
        self._scan(clean=True)

    def _wipe(self, manifest: Path) -> None:
        # The mark makes a wipe that is cut short go on at the next start; a half wiped run would
        # otherwise be taken for a whole one.
        write_json(manifest, _RESTARTING)
        for entry in list(self.path.iterdir()):
            if entry.name not in (".lock", manifest.name):
                remove(entry)

    def _scan(self, *, clean: bool = False) -> None:
        best: dict[int, tuple[int, Path]] = {}
        for path in sorted((self.path / "units").glob("*")):
            match = _UNIT.fullmatch(path.name)
            if match is None:
                continue
            index, generation = int(match[1]), int(match[2] or 0)
            if index in best and clean:
                remove(path if generation < best[index][0] else best[index][1])
            if index not in best or generation > best[index][0]:
                best[index] = (generation, path)
        self.units = {
            index: UnitRecord(index, generation, path, read_json(path / "unit.json"))
            for index, (generation, path) in sorted(best.items())
        }
        for record in self.units.values():
            # The footer alone is read: enough to notice a file that was cut short or emptied.
            path = record.path / "rollouts.parquet"
            with _reading(path):
                pq.read_metadata(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="run again with --restart") from error


def differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Name what differs between two JSON values, with both values."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted({*found, *wanted})
        return [
            text
            for key in keys
            for text in differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    return [] if found == wanted else [f"{name} is {found!r} there and {wanted!r} here"]


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk on which ``path`` is or will be."""
    while not path.exists():
        path = path.parent
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
