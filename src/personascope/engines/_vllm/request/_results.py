"""Parse and merge the results that workers send back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors.numpy import load

from personascope.errors import EngineError
from personascope.interventions import CapCounts


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Activations and counts that were read from one request.

    Attributes:
        plan: Digest of the plan that was applied, or None.
        counts: Number of tokens of each span.
        layers: Layers of the sums.
        sums: Sums of activations, [spans, layers, d] float32, or None.
        norms: Sums of the tokens' norms, [spans, layers], or None.
        projections: Projections of each span's tokens, [tokens, probes] float32.
        cap_counts: Counts of where the plan acted and its caps fired, before a gate opened.
        read: Positions that each span read, as ranges; None for all of it.
        gate_at: Position from which a gate acted; None if none did.
        gate_counts: Counts from there on; None without a gate.
        stopped: Position at which an alarm ended the response, or None.
        prompt: Position of the response's first token, if any of this is known; else 0.
    """

    plan: str | None
    counts: list[int]
    layers: list[int]
    sums: np.ndarray | None
    norms: np.ndarray | None
    projections: list[np.ndarray]
    cap_counts: CapCounts
    read: list[list[tuple[int, int]]] | None = None
    gate_at: int | None = None
    gate_counts: CapCounts | None = None
    stopped: int | None = None
    prompt: int = 0

    def mean(self, span: int, layers: Sequence[int]) -> np.ndarray | None:
        """Return the mean over a span at some layers, [layers, d]; None for an empty span."""
        if self.sums is None or not self.counts[span]:
            return None
        places = [self.layers.index(layer) for layer in layers]
        return self.sums[span][places] / np.float32(self.counts[span])

    def mean_of_all(self, layers: Sequence[int]) -> np.ndarray | None:
        """Return the mean over the tokens of all spans, [layers, d]; None if there is no token."""
        means = [self.mean(span, layers) for span in range(len(self.counts))]
        found = [mean for mean in means if mean is not None]
        if len(found) < 2:
            return found[0] if found else None
        weights = [count for count in self.counts if count]
        return np.average(np.stack(found), axis=0, weights=weights).astype(np.float32)


def read_results(blobs: Sequence[bytes]) -> dict[str, Reading]:
    """Merge the answers of all workers to a fetch into one reading per request.

    With tensor parallelism the residual stream is the same on every worker, and the first one's is used. The
    stages of a pipeline hold different layers, and each sends the results of its own.

    Raises:
        EngineError: If workers disagree on tokens, plans or layers, or do not project each probe once.
    """
    parts = [_parse(blob) for blob in blobs]
    return {key: _merge(key, [part[key] for part in parts]) for key in parts[0]}


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One worker's results of a request.

    Attributes:
        reading: Results at the layers that the worker holds.
        columns: Indices of the probes at one of these layers.
        stage: Pipeline stage of the worker.
        hit: Positions on which a cap fired at one of its layers; None if there is only one stage.
    """

    reading: Reading
    columns: list[int]
    stage: int
    hit: np.ndarray | None


def _parse(blob: bytes) -> dict[str, _Part]:
    arrays = load(blob)
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    found: dict[str, _Part] = {}
    for key, meta in json.loads(header["__metadata__"]["results"]).items():
        at = meta["place"]
        reading = Reading(
            plan=meta["plan"],
            counts=meta["counts"],
            layers=meta.get("layers", []),
            sums=arrays.get(f"{at}.sums"),
            norms=arrays.get(f"{at}.norms"),
            projections=[arrays[f"{at}.projections.{number}"] for number in range(len(meta["counts"]))]
            if "probes" in meta
            else [],
            cap_counts=_counts(meta.get("cap_counts")) or CapCounts(),
            read=None if "read" not in meta else [[(a, b) for a, b in one] for one in meta["read"]],
            gate_at=meta.get("gate_at"),
            gate_counts=_counts(meta.get("gate_counts")),
            stopped=meta.get("stopped"),
            prompt=meta.get("prompt", 0),
        )
        found[key] = _Part(reading, meta.get("columns", []), meta.get("stage", 0), arrays.get(f"{at}.hit"))
    return found


def _counts(told: dict[str, Any] | None) -> CapCounts | None:
    if told is None:
        return None
    return CapCounts(
        told["tokens"],
        told["capped"],
        {int(layer): count for layer, count in told["fired"].items()},
        {int(layer): length for layer, length in told["moved"].items()},
        told["greatest"],
    )


def _merge(key: str, parts: list[_Part]) -> Reading:
    stages: dict[int, _Part] = {}
    for part in parts:
        stages.setdefault(part.stage, part)
    first = parts[0].reading
    for part in parts:
        reading, same = part.reading, stages[part.stage].reading
        if (reading.counts, reading.plan, reading.layers) != (first.counts, first.plan, same.layers) or (
            (reading.gate_at, reading.stopped) != (first.gate_at, first.stopped)
        ):
            raise EngineError(
                f"the workers read different tokens of request {key!r}: "
                f"{[part.reading.counts for part in parts]}",
                hint="report this with the vLLM version and the parallelism; the results are not used",
            )
    if len(stages) == 1:
        return first
    return _join(key, [stages[stage] for stage in sorted(stages)])


def _join(key: str, parts: list[_Part]) -> Reading:
    """Join the results of pipeline stages, each of its own layers."""
    readings = [part.reading for part in parts]
    first = readings[0]
    sums = [reading.sums for reading in readings if reading.sums is not None]
    norms = [reading.norms for reading in readings if reading.norms is not None]
    projections: list[np.ndarray] = []
    for span, projected in enumerate(first.projections):
        whole = np.full((max(len(r.projections[span]) for r in readings), projected.shape[1]), np.nan)
        for part in parts:
            if part.columns:
                whole[:, part.columns] = part.reading.projections[span][:, part.columns]
        if len(whole) and sorted(c for part in parts for c in part.columns) != list(range(whole.shape[1])):
            raise EngineError(
                f"no worker, or two, projected request {key!r} onto one of its probes",
                hint="report this with the vLLM version and the parallelism; the results are not used",
            )
        projections.append(whole.astype(np.float32))
    cap_counts = sum((reading.cap_counts for reading in readings), CapCounts())
    hit = [part.hit for part in parts if part.hit is not None]
    return Reading(
        plan=first.plan,
        counts=first.counts,
        read=first.read,
        layers=[layer for reading in readings for layer in reading.layers],
        sums=np.concatenate(sums, axis=1) if sums else None,
        norms=np.concatenate(norms, axis=1) if norms else None,
        projections=projections,
        # A token on which caps of two stages fired counts once.
        cap_counts=replace(
            cap_counts, tokens=first.cap_counts.tokens, capped=len(np.unique(np.concatenate(hit)))
        ),
    )
