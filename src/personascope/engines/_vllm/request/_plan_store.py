"""Plans and probes by digest, in a folder that the front end, the scheduler and the workers share.

An entry is written once, whole or not at all, and never changed: its name is its digest. A restarted
server finds the plans that it had.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from personascope.engines._contract import Probe
from personascope.errors import EngineError, InterventionError, StoreError
from personascope.interventions import Plan
from personascope.store import write_bytes

KEPT = 1024
"""Entries that a process keeps in memory."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class ProbeSet:
    """Directions onto which tokens are projected, in one order.

    Attributes:
        names: Of the probes.
        layers: Of the probes.
        directions: [probes, d] float32.
        digest: Of all of that.
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


class PlanStore:
    """The folder, and what of it is in memory."""

    def __init__(self, folder: Path | str) -> None:
        """Open it; it is made when something is put in."""
        self.folder = Path(folder)
        self._kept: OrderedDict[str, Plan | ProbeSet] = OrderedDict()

    def put(self, value: Plan | ProbeSet) -> str:
        """Write a plan or probes unless they are there, and return the digest.

        Raises:
            StoreError: If the folder cannot be written.
        """
        digest = value.digest
        if digest in self._kept:
            return digest
        place = self._place(digest, value)
        if not place.exists():
            if isinstance(value, Plan):
                value.save(place)
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                meta = {"names": json.dumps(value.names), "layers": json.dumps(value.layers)}
                write_bytes(place, save({"directions": value.directions}, meta))
        self._keep(digest, value)
        return digest

    def plan(self, digest: str) -> Plan:
        """Return a plan.

        Raises:
            EngineError: If it is not there, or is damaged.
        """
        kept = self._known(digest)
        if not isinstance(kept, Plan):
            place = self._checked(digest, "plan") / "plan.json"
            if not place.exists():
                raise self._unknown("plan", digest)
            try:
                kept = Plan.load(place.parent)
            except (StoreError, InterventionError) as error:
                raise EngineError(f"plan {digest[:12]}: {error.message}", hint=error.hint) from error
            if kept.digest != digest:
                raise self._unknown("plan", digest)
            self._keep(digest, kept)
        return kept

    def probes(self, digest: str) -> ProbeSet:
        """Return a set of probes.

        Raises:
            EngineError: If it is not there, or is damaged.
        """
        kept = self._known(digest)
        if not isinstance(kept, ProbeSet):
            place = self._checked(digest, "probe set").with_suffix(".probes")
            try:
                raw = place.read_bytes()
            except OSError as error:
                raise self._unknown("probe set", digest) from error
            try:
                directions = load(raw)["directions"]
                meta = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
                kept = ProbeSet(
                    tuple(json.loads(meta["names"])), tuple(json.loads(meta["layers"])), directions, digest
                )
            except (SafetensorError, KeyError, ValueError) as error:
                raise EngineError(
                    f"{place} is damaged: {error}", hint="delete it and send it again"
                ) from error
            self._keep(digest, kept)
        return kept

    def _place(self, digest: str, value: Plan | ProbeSet) -> Path:
        place = self.folder / digest
        return place if isinstance(value, Plan) else place.with_suffix(".probes")

    def _checked(self, digest: str, kind: str) -> Path:
        # A digest comes from outside and becomes a path.
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
