"""Store of plans and probes by digest, in a folder that front end, scheduler and workers share.

An entry is named by its digest, written whole or not at all, and never changed. Any number of threads,
processes and servers may write the same entry at once. A restarted server finds its earlier plans. Only
the user who runs the server can read the folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from personascope.engines._contract import Probe
from personascope.errors import EngineError, InterventionError, StoreError
from personascope.interventions import Plan
from personascope.store import remove, sync, write_bytes

KEPT = 1024
"""Maximum number of entries that a process keeps in memory."""

PROBES = ".probes"
"""Suffix of a file of probes; a plan is a folder."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class ProbeSet:
    """An ordered set of directions on which tokens are projected.

    Attributes:
        names: Names of the probes.
        layers: Layer of each probe.
        directions: Direction of each probe, [probes, d] float32.
        digest: SHA-256, in hex, of names, layers and directions.
    """

    names: tuple[str, ...]
    layers: tuple[int, ...]
    directions: np.ndarray
    digest: str

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> ProbeSet:
        """Return the set of a request's probes."""
        directions = np.stack([np.asarray(probe.direction, np.float32) for probe in probes])
        names = tuple(probe.name for probe in probes)
        layers = tuple(probe.layer for probe in probes)
        sha = hashlib.sha256(json.dumps([names, layers]).encode())
        sha.update(np.ascontiguousarray(directions, "<f4").tobytes())
        return cls(names, layers, directions, sha.hexdigest())

    def probes(self) -> list[Probe]:
        """Return the probes of the set."""
        rows = zip(self.names, self.layers, self.directions, strict=True)
        return [Probe(name, layer, direction) for name, layer, direction in rows]


class PlanStore:
    """The store's folder, with an in-memory cache of entries."""

    def __init__(self, folder: Path | str) -> None:
        """Open a store; its folder is created with the first entry."""
        self.folder = Path(folder)
        self._kept: OrderedDict[str, Plan | ProbeSet] = OrderedDict()

    def put(self, value: Plan | ProbeSet) -> str:
        """Write a plan or probes unless they are already there, and return the digest.

        A damaged entry is replaced.

        Raises:
            StoreError: If the folder cannot be written.
        """
        digest = value.digest
        if digest in self._kept:
            return digest
        if not self._whole(digest, value):
            with _as_store_errors(self.folder):
                self._write(digest, value)
        self._keep(digest, value)
        return digest

    def digests(self, kind: type[Plan | ProbeSet], *, after: str = "", limit: int | None = None) -> list[str]:
        """Return the digests of the stored plans or probe sets, ascending.

        Args:
            kind: `Plan` or `ProbeSet`.
            after: Digest after which to begin.
            limit: Maximum number of digests; None for all.
        """
        if not self.folder.is_dir():
            return []
        suffix = "" if kind is Plan else PROBES
        names = (entry.name for entry in self.folder.iterdir() if entry.name.endswith(suffix))
        found = (name.removesuffix(suffix) for name in names)
        return sorted(name for name in found if name > after and _DIGEST.fullmatch(name))[:limit]

    def delete(self, digest: str, kind: type[Plan | ProbeSet]) -> None:
        """Delete a plan or a set of probes, whole or damaged.

        Raises:
            EngineError: If there is no such entry.
            StoreError: If the folder cannot be written.
        """
        name = "plan" if kind is Plan else "probe set"
        place = self._checked(digest, name).with_suffix("" if kind is Plan else PROBES)
        if not place.exists():
            raise self._unknown(name, digest)
        with _as_store_errors(self.folder), self._locked():
            aside = self._scratch(digest)
            place.rename(aside)
            remove(aside)
        self.forget(digest)

    def forget(self, digest: str) -> None:
        """Drop an entry from memory, so that it is read anew."""
        self._kept.pop(digest, None)

    def plan(self, digest: str) -> Plan:
        """Return a plan.

        Raises:
            EngineError: If it is missing or damaged.
        """
        kept = self._known(digest)
        if not isinstance(kept, Plan):
            kept = self._read_plan(digest)
            self._keep(digest, kept)
        return kept

    def probes(self, digest: str) -> ProbeSet:
        """Return a set of probes.

        Raises:
            EngineError: If it is missing or damaged.
        """
        kept = self._known(digest)
        if not isinstance(kept, ProbeSet):
            kept = self._read_probes(digest)
            self._keep(digest, kept)
        return kept

    def _read_plan(self, digest: str) -> Plan:
        place = self._checked(digest, "plan")
        if not place.exists():
            raise self._unknown("plan", digest)
        try:
            plan = Plan.load(place)
        except (StoreError, InterventionError) as error:
            # Clients read this message, so it must not show the server's folders.
            why = error.message.replace(f"{self.folder}{os.sep}", "")
            raise _damaged("plan", digest, why) from error
        if plan.digest != digest:
            raise _damaged("plan", digest, f"its digest is {plan.digest[:12]}")
        return plan

    def _read_probes(self, digest: str) -> ProbeSet:
        place = self._checked(digest, "probe set").with_suffix(PROBES)
        try:
            raw = place.read_bytes()
        except OSError as error:
            raise self._unknown("probe set", digest) from error
        try:
            directions = load(raw)["directions"]
            meta = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
            names, layers = json.loads(meta["names"]), json.loads(meta["layers"])
            probes = [
                Probe(name, layer, row) for name, layer, row in zip(names, layers, directions, strict=True)
            ]
            found = ProbeSet.of(probes)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _damaged("probe set", digest, str(error)) from error
        if found.digest != digest:
            raise _damaged("probe set", digest, f"its digest is {found.digest[:12]}")
        return found

    def _whole(self, digest: str, value: Plan | ProbeSet) -> bool:
        """Return whether an entry exists and can be read."""
        try:
            if isinstance(value, Plan):
                self._read_plan(digest)
            else:
                self._read_probes(digest)
        except EngineError:
            return False
        return True

    def _write(self, digest: str, value: Plan | ProbeSet) -> None:
        self._make_folder()
        new = self._scratch(digest)
        try:
            if isinstance(value, ProbeSet):
                meta = {"names": json.dumps(value.names), "layers": json.dumps(value.layers)}
                write_bytes(new, save({"directions": value.directions}, meta))
                new.chmod(0o600)
                new.replace(self.folder / f"{digest}{PROBES}")
            else:
                value.save(new)
                for file in new.iterdir():
                    file.chmod(0o600)
                new.chmod(0o700)
                self._move_in(new, digest, value)
            sync(self.folder)
        finally:
            remove(new)

    def _move_in(self, new: Path, digest: str, plan: Plan) -> None:
        """Rename a plan's folder to its digest, unless another writer's whole entry is there."""
        place = self.folder / digest
        if _renamed(new, place):
            return
        # Another writer's entry is there. It is removed only if damaged, and only under the lock.
        with self._locked():
            while not self._whole(digest, plan):
                if place.exists():
                    aside = self._scratch(digest)
                    place.rename(aside)
                    remove(aside)
                # A writer without the lock may have been faster; its entry is then checked.
                if _renamed(new, place):
                    return

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)

    def _scratch(self, digest: str) -> Path:
        """Return a unique temporary name inside the folder."""
        return self.folder / f".{digest[:16]}.{uuid.uuid4().hex}.tmp"

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the lock, across threads and processes, under which entries are removed."""
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _checked(self, digest: str, kind: str) -> Path:
        # A digest from outside becomes a path, so its form is checked.
        if not _DIGEST.fullmatch(digest):
            raise self._unknown(kind, digest)
        return self.folder / digest

    def _unknown(self, kind: str, digest: str) -> EngineError:
        return EngineError(
            f"there is no {kind} {digest[:16]!r}",
            hint=f"register the {kind} before it is used; its name is its whole digest",
        )

    def _known(self, digest: str) -> Plan | ProbeSet | None:
        kept = self._kept.get(digest)
        if kept is not None:
            self._kept.move_to_end(digest)
        return kept

    def _keep(self, digest: str, value: Plan | ProbeSet) -> None:
        self._kept[digest] = value
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _renamed(new: Path, place: Path) -> bool:
    """Rename a folder; return False if the name is taken."""
    try:
        new.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _damaged(kind: str, digest: str, why: str) -> EngineError:
    return EngineError(f"{kind} {digest[:12]} is damaged: {why}", hint=f"send the {kind} again")


@contextmanager
def _as_store_errors(folder: Path) -> Generator[None]:
    """Convert an OSError within a ``with`` block into a StoreError.

    Raises:
        StoreError: If the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the plan store {folder} could not be written: {error.strerror or error}",
            hint="free space, or give a folder that this user may write",
        ) from error
