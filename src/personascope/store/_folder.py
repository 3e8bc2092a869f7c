"""Run folders: the results of a long run on disk, committed unit by unit.

::

    manifest.json        identity of the run; compared when the run is resumed
    units/00042/         one committed unit: unit.json, rollouts.parquet and safetensors parts
    units/00042.g1/      the same unit after it was rewritten; the highest generation counts
    <kind>/<name>.safetensors   shards that outlive the units they were made from
    checksums.json       SHA-256 of every shard
    .lock                held by the process that writes

A unit is written under a temporary name and renamed, so it is complete or absent. unit.json holds the SHA-256
of the unit's other files. A file is compared with its checksum before it is read.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from personascope.errors import StoreError
from personascope.store._checksums import CheckedFiles, file_sha256, say_unchecked
from personascope.store._files import AGAIN, TMP, read_json, remove, sync, tmp_path, write_json, writing
from personascope.store._lock import take_lock
from personascope.store._records import Record, RecordT, as_record, read_record, write_record
from personascope.store._run_records import (
    FILES,
    FORMAT,
    UNIT,
    Files,
    Manifest,
    UnitRecord,
    differences,
    read_unit,
    reading_rows,
)
from personascope.store._tensors import TensorFile, TensorPart, write_tensors

_MANIFEST, _CHECKSUMS, _ROWS = "manifest.json", "checksums.json", "rollouts.parquet"
_UNIT = re.compile(r"(\d{5,})(?:\.g(\d+))?")
_RESTARTING = {"restarting": True}


class RunFolder:
    """A run folder, opened for writing by one process (`open`) or for reading (`read`).

    Use it as a context manager, so that the lock is released.
    """

    def __init__(self, path: Path, lock: BinaryIO | None, unit: type[Record]) -> None:
        """Wrap an existing folder unchecked; use `open` or `read` instead."""
        self.path = path
        self._lock = lock
        self._unit = unit
        self._checked = CheckedFiles()
        self._shards: dict[str, str] | None = None
        """Shard -> SHA-256; None in a folder of an earlier version without checksums."""
        self.manifest: dict[str, Any] = {}
        self.units: dict[int, UnitRecord] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        identity: Mapping[str, Any],
        notes: Mapping[str, Any],
        *,
        restart: bool = False,
        unit: type[Record] = Record,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> RunFolder:
        """Create a run folder, or resume the run in it.

        Leftovers of an interrupted process are removed.

        Args:
            path: Run folder; it need not exist.
            identity: JSON values that must match when the run is resumed.
            notes: JSON values that are only recorded, on the first start.
            restart: Discard the run that is in the folder.
            unit: Schema of the job's metadata in unit.json.
            earlier: Other identities that may be resumed as this run; a matching one is replaced by
                ``identity``.

        Raises:
            StoreError: If another process writes to the folder, the folder holds another run or other files,
                or it cannot be written.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / ".lock").open("ab")
        folder = cls(path, lock, unit)
        try:
            take_lock(path, lock)
            folder._prepare(identity, notes, restart, earlier)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def read(cls, path: Path, *, unit: type[Record] = Record) -> RunFolder:
        """Open a run folder for reading, without a lock and without cleaning up.

        Args:
            path: Run folder.
            unit: Schema of the job's metadata in unit.json.

        Raises:
            StoreError: If the folder holds no run, or a record of the run is damaged.
        """
        folder = cls(path, None, unit)
        hint = "give the folder of a run"
        folder.manifest = read_json(path / _MANIFEST, hint=hint)
        as_record(folder.manifest, Manifest, path=path / _MANIFEST, hint=hint, format=FORMAT)
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
        """Release the lock."""
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
        """Commit a unit; a committed unit is replaced by a new generation.

        Args:
            index: Index of the unit in the run.
            rows: Table to write to rollouts.parquet.
            meta: Metadata to write to unit.json.
            parts: Name -> tensors to write to ``<name>.safetensors``.
            carry: Names of parts to copy from the previous generation, if it has them.

        Raises:
            StoreError: If the unit cannot be written; no partial unit is left.
        """
        self.require_place()
        before = self.units.get(index)
        generation = before.generation + 1 if before else 0
        path = self.path / "units" / (f"{index:05d}" + (f".g{generation}" if generation else ""))
        tmp = tmp_path(path)
        files: dict[str, str] = {}
        with writing(path):
            try:
                path.parent.mkdir(exist_ok=True)
                tmp.mkdir()
                pq.write_table(rows, tmp / _ROWS, compression="zstd")
                sync(tmp / _ROWS)
                files[_ROWS] = file_sha256(tmp / _ROWS)
                for name, part in parts.items():
                    files[f"{name}.safetensors"] = write_tensors(tmp / f"{name}.safetensors", part)
                for name in carry:
                    old = before.path / f"{name}.safetensors" if before else None
                    if before is not None and old is not None and (old.exists() or old.name in before.files):
                        self._require_file(old, before.files.get(old.name))
                        shutil.copyfile(old, tmp / old.name)
                        sync(tmp / old.name)
                        files[old.name] = file_sha256(tmp / old.name)
                write_record(tmp / UNIT, {**meta, FILES: files})
                sync(tmp)
                tmp.rename(path)
                sync(path.parent)
            except BaseException:
                shutil.rmtree(tmp, ignore_errors=True)
                raise
        if before:
            remove(before.path)
        self.units[index] = UnitRecord(index, generation, path, dict(meta), files)
        return self.units[index]

    def rows(self, index: int) -> pa.Table:
        """Read the rows of a committed unit.

        Raises:
            StoreError: If the file is missing or damaged.
        """
        unit = self.units[index]
        path = unit.path / _ROWS
        self._require_file(path, unit.files.get(_ROWS))
        with reading_rows(path):
            return pq.ParquetFile(path).read()

    def part(self, index: int, name: str) -> TensorFile | None:
        """Open a part of a committed unit; None if the unit has no such part.

        Raises:
            StoreError: If the unit's record names the file and it is missing (for example dropped) or
                damaged.
        """
        unit = self.units[index]
        path = unit.path / f"{name}.safetensors"
        self._require_file(path, unit.files.get(path.name))
        return TensorFile(path) if path.exists() else None

    def drop_part(self, index: int, name: str) -> None:
        """Remove a part of a committed unit; do nothing if it is missing."""
        self.require_place()
        remove(self.units[index].path / f"{name}.safetensors")

    def write_shard(self, kind: str, name: str, part: TensorPart) -> None:
        """Write ``<kind>/<name>.safetensors`` atomically.

        Raises:
            StoreError: If the file cannot be written.
        """
        self.require_place()
        path = self._shard_path(kind, name)
        tmp = tmp_path(path)
        with writing(path):
            try:
                path.parent.mkdir(exist_ok=True)
                sha256 = write_tensors(tmp, part)
                tmp.replace(path)
                sync(path.parent)
            except BaseException:
                tmp.unlink(missing_ok=True)
                raise
        if self._shards is not None:
            # After an interruption before this line, the shard counts as not written; its sources still
            # exist.
            self._shards[f"{kind}/{path.name}"] = sha256
            write_record(self.path / _CHECKSUMS, {FILES: self._shards})

    def shard(self, kind: str, name: str) -> TensorFile | None:
        """Open a shard; return None if it is not written yet.

        Raises:
            StoreError: If the file is missing or damaged.
        """
        path = self._shard_path(kind, name)
        if self._shards is None:
            return TensorFile(path) if path.exists() else None
        sha256 = self._shards.get(f"{kind}/{path.name}")
        if sha256 is None:
            return None
        self._require_file(path, sha256)
        return TensorFile(path)

    def shards(self, kind: str) -> set[str]:
        """Return the names of the shards of a kind."""
        if self._shards is None:
            return {path.stem for path in (self.path / kind).glob("*.safetensors")}
        return {Path(name).stem for name in self._shards if Path(name).parent.name == kind}

    def disk_bytes(self) -> int:
        """Return the total size of all files in the folder, in bytes."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def _shard_path(self, kind: str, name: str) -> Path:
        return self.path / kind / f"{name}.safetensors"

    def _require_file(self, path: Path, sha256: str | None) -> None:
        try:
            self._checked.require(path, sha256)
        except StoreError:
            if self._lock is not None:
                self.require_place()
            raise

    def described(self, model: type[RecordT]) -> RecordT:
        """Validate the manifest against a schema, and return it as that record.

        Raises:
            StoreError: If a field is missing or of another type, as in another kind of run.
        """
        return as_record(
            self.manifest, model, path=self.path / _MANIFEST, hint="give the folder of the run that is meant"
        )

    def require_place(self) -> None:
        """Check that the folder was not moved or removed during the run.

        Raises:
            StoreError: If the folder is not open for writing, or is no longer at its path.
        """
        if self._lock is None:
            raise StoreError(f"{self.path} is not open for writing", hint="open it with RunFolder.open")
        try:
            same = os.path.samestat(os.fstat(self._lock.fileno()), (self.path / ".lock").stat())
        except OSError:
            same = False
        if not same:
            raise StoreError(
                f"{self.path} was moved or removed while the run wrote to it",
                hint="move it back and run the same command again; what was committed is kept",
            )

    def _prepare(
        self,
        identity: Mapping[str, Any],
        notes: Mapping[str, Any],
        restart: bool,
        earlier: Sequence[Mapping[str, Any]],
    ) -> None:
        path = self.path / _MANIFEST
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
        else:
            as_record(found, Manifest, path=path, hint=AGAIN, format=FORMAT)
            kept = found.get("identity", {})
            different = differences(kept, identity)
            if different and any(not differences(kept, one) for one in earlier):
                found = {**found, "identity": dict(identity)}
                write_record(path, found)
            elif different:
                raise StoreError(
                    f"{self.path} holds another run: " + "; ".join(different),
                    hint="use another folder, or --restart to forget that run",
                )
        for pattern in (f"*{TMP}*", f"*/*{TMP}*"):
            for leftover in list(self.path.glob(pattern)):
                remove(leftover)
        if found is None:
            found = {
                "format": FORMAT, "identity": dict(identity), "notes": dict(notes), "checksums": True
            }  # fmt: skip
            write_record(path, found)
        self.manifest = found
        self._scan(clean=True)

    def _wipe(self, manifest: Path) -> None:
        # Mark the folder first, so that an interrupted wipe continues at the next start. Otherwise a
        # half-wiped run would look like a complete one.
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
            index: read_unit(self._unit, index, generation, path)
            for index, (generation, path) in sorted(best.items())
        }
        for record in self.units.values():
            # Read only the footer, which is enough to detect a truncated file.
            path = record.path / _ROWS
            with reading_rows(path):
                pq.read_metadata(path)
        if not self.manifest.get("checksums"):
            say_unchecked(self.path.resolve())
            return
        path = self.path / _CHECKSUMS
        found = read_record(path, Files, hint=AGAIN).sha256 if path.exists() else None
        self._shards = dict(found or {})
